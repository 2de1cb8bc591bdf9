/* SPDX-License-Identifier: BSD-3-Clause */

/* How points come, merge and go. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "below/log.h"
#include "points/points-private.h"
#include "segment/segment-server.h"
#include "utils/cleanup.h"

void
points_init (struct points *p)
{
  *p = (struct points) { .segment = NULL };
  pthread_mutex_init (&p->lock, NULL);
}

void
points_destroy (struct points *p)
{
  pthread_mutex_destroy (&p->lock);
}

void
points_attach (struct points *p, struct segment *segment,
               struct generation *generation, bool track,
               bool durable)
{
  p->segment = segment;
  p->track = track;
  p->durable = durable;
  p->generation = generation;
  p->cluster_size = segment->map.geometry.cluster_size;
}

struct points_entry *
points_get (struct points *p, uint64_t id)
{
  struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (points_is_made (entry) && entry->id == id)
      return entry;
  return NULL;
}

struct points_entry *
points_before (struct points *p, uint64_t id)
{
  struct points_entry *entry, *found = NULL;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED && entry->id < id &&
        (found == NULL || entry->id > found->id))
      found = entry;
  return found;
}

void
points_set_newest (struct points *p, const struct points_entry *entry)
{
  p->newest = entry ? points_bits (p, entry) : (struct bitmap) { .nbits = 0 };
}

/* The lock is held. */
static struct points_entry *
find_free (struct points *p)
{
  struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_FREE)
      return entry;
  return NULL;
}

static int
check_name (struct points *p, const char *name, struct error *e)
{
  const struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use != POINTS_FREE && entry->use != POINTS_MERGING &&
        !(entry->flags & CBW_POINT_BACKUP) && strcmp (entry->name, name) == 0)
      return error_set (e, EEXIST, "%s: there is a snapshot or checkpoint \"%s\"; "
                        "choose another name, or drop it first", p->segment->path,
                        name);
  return 0;
}

int
points_reserve (struct points *p, const char *name, const uint8_t uuid[16],
                uint32_t flags, struct points_draft *draft, struct error *e)
{
  struct points_entry *entry;

  *draft = (struct points_draft) { .wanted = p->track };
  if (!draft->wanted)
    return 0;
  {
    LOCK_FOR_SCOPE (&p->lock);
    if (check_name (p, name, e) == -1)
      return -1;
    entry = find_free (p);                                          /* K1 */
    if (entry == NULL)
      return error_set (e, ENOSPC, "%s: has %d snapshots and checkpoints from "
                        "which changes are counted, and no room for more; drop "
                        "some", p->segment->path, CBW_NR_POINTS);
    *entry = (struct points_entry) {
      .use = POINTS_MAKING, .valid = true, .flags = flags
    };
    memcpy (entry->uuid, uuid, sizeof entry->uuid);
    strncpy (entry->name, name, sizeof entry->name - 1);
    draft->index = points_index (p, entry);
  }
  generation_bump (p->generation);
  if (segment_allocate_changed (p->segment, draft->index, e) == 0)
    return 0;
  points_undo (p, draft);
  return -1;
}

void
points_undo (struct points *p, const struct points_draft *draft)
{
  if (!draft->wanted)
    return;
  LOCK_FOR_SCOPE (&p->lock);
  if (p->entries[draft->index].use == POINTS_MAKING)
    p->entries[draft->index].use = POINTS_FREE;
}

static void
write_shared (struct cbw_point *shared, const struct points_entry *entry,
              uint64_t created_ns)
{
  struct cbw_point fixed = {
    .id = entry->id, .size = entry->size, .created_ns = created_ns,
    .flags = entry->flags,
  };

  memcpy (fixed.uuid, entry->uuid, sizeof fixed.uuid);
  memcpy (fixed.name, entry->name, sizeof fixed.name);
  fixed.sum = point_sum (&fixed);
  memcpy (shared, &fixed, offsetof (struct cbw_point, state));
}

void
points_commit (struct points *p, const struct points_draft *draft,
               uint64_t id, uint64_t size, uint64_t created_ns)
{
  struct points_entry *entry;

  if (!draft->wanted)
    return;
  LOCK_FOR_SCOPE (&p->lock);
  entry = &p->entries[draft->index];
  assert (entry->use == POINTS_MAKING);
  entry->use = POINTS_USED;
  entry->id = id;
  entry->size = size;
  write_shared (points_shared (p, entry), entry, created_ns);              /* K2 */
  points_set_state (p, entry, CBW_POINT_VALID);                            /* K3 */
  points_set_newest (p, entry);                                            /* K4 */
}

bool
points_has (struct points *p, uint64_t id)
{
  LOCK_FOR_SCOPE (&p->lock);

  return points_get (p, id) != NULL;
}

/* The lock is held. */
static bool
is_newest (struct points *p, const struct points_entry *entry)
{
  return p->newest.words != NULL &&
    p->newest.words == points_bits (p, entry).words;
}

bool
points_is_newest (struct points *p, uint64_t id)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = points_get (p, id);
  return entry && is_newest (p, entry);
}

uint64_t
points_to_make_room (struct points *p, bool (*busy) (void *opaque, uint64_t id),
                     void *opaque)
{
  const struct points_entry *entry;
  uint64_t found = 0;

  LOCK_FOR_SCOPE (&p->lock);
  if (!p->track || find_free (p) != NULL)
    return 0;
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED && (entry->flags & CBW_POINT_BACKUP) &&
        (found == 0 || entry->id < found) && !is_newest (p, entry) &&
        !busy (opaque, entry->id))
      found = entry->id;
  return found;
}

uint64_t
points_replaced (struct points *p, uint64_t id)
{
  const struct points_entry *entry, *new;

  LOCK_FOR_SCOPE (&p->lock);
  new = points_get (p, id);
  for (entry = p->entries; new && entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED && entry->id < id &&
        strcmp (entry->name, new->name) == 0)
      return entry->id;
  return 0;
}

void
points_leave (struct points *p, uint64_t id)
{
  struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = points_get (p, id);
  if (entry == NULL || entry->use == POINTS_MERGING)
    return;
  entry->use = POINTS_MERGING;
  points_set_state (p, entry, CBW_POINT_MERGING);                          /* J1 */
  if (is_newest (p, entry))
    points_set_newest (p, points_before (p, id));                            /* J2 */
}

void
points_merge (struct points *p, uint64_t id)
{
  struct points_entry *entry;
  struct bitmap from, to = { .nbits = 0 };
  const struct points_entry *before;

  {
    LOCK_FOR_SCOPE (&p->lock);
    entry = points_get (p, id);
    if (entry == NULL)
      return;
    assert (entry->use == POINTS_MERGING);
    from = points_bits (p, entry);
    before = points_before (p, id);
    if (before)
      to = points_bits (p, before);
  }
  /* Without the lock: engine->control keeps both where they are. */
  points_add_bits (&to, &from);                                            /* J3 */
  points_persist (p);
  LOCK_FOR_SCOPE (&p->lock);
  points_set_state (p, entry, CBW_POINT_EMPTY);                            /* J4 */
  entry->use = POINTS_FREE;
}
