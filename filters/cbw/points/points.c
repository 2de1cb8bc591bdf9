/* SPDX-License-Identifier: BSD-3-Clause */

/* How points come, merge and go. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "below/log.h"
#include "points/points.h"
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

static unsigned
index_of (const struct points *p, const struct points_entry *entry)
{
  return (unsigned) (entry - p->entries);
}

static struct cbw_point *
shared (const struct points *p, const struct points_entry *entry)
{
  return map_point (&p->segment->map, index_of (p, entry));
}

/* Sequentially consistent: J3 comes before J4 for all who read. */
static void
set_state (const struct points *p, const struct points_entry *entry,
           enum cbw_point_state state)
{
  atomic_store (&shared (p, entry)->state, state);
}

static struct bitmap
changed_of (const struct points *p, const struct points_entry *entry)
{
  return map_changed (&p->segment->map, index_of (p, entry), entry->size);
}

/* The lock is held in these. */

static bool
is_made (const struct points_entry *entry)
{
  return entry->use == POINTS_USED || entry->use == POINTS_MERGING;
}

static struct points_entry *
find (struct points *p, uint64_t id)
{
  struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (is_made (entry) && entry->id == id)
      return entry;
  return NULL;
}

/* The newest that is older than "id"; of those that stay. */
static struct points_entry *
find_before (struct points *p, uint64_t id)
{
  struct points_entry *entry, *found = NULL;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED && entry->id < id &&
        (found == NULL || entry->id > found->id))
      found = entry;
  return found;
}

/* What guests mark in from now on; the gate is closed. */
static void
set_newest (struct points *p, const struct points_entry *entry)
{
  p->newest = entry ? changed_of (p, entry) : (struct bitmap) { .nbits = 0 };
}

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
      .use = POINTS_MAKING, .flags = flags
    };
    memcpy (entry->uuid, uuid, sizeof entry->uuid);
    strncpy (entry->name, name, sizeof entry->name - 1);
    draft->index = index_of (p, entry);
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
  write_shared (shared (p, entry), entry, created_ns);              /* K2 */
  set_state (p, entry, CBW_POINT_VALID);                            /* K3 */
  set_newest (p, entry);                                            /* K4 */
}

bool
points_has (struct points *p, uint64_t id)
{
  LOCK_FOR_SCOPE (&p->lock);

  return find (p, id) != NULL;
}

uint64_t
points_find_uuid (struct points *p, const uint8_t uuid[16])
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (is_made (entry) && memcmp (entry->uuid, uuid, 16) == 0)
      return entry->id;
  return 0;
}

/* The lock is held. */
static bool
is_newest (struct points *p, const struct points_entry *entry)
{
  return p->newest.words != NULL &&
    p->newest.words == changed_of (p, entry).words;
}

bool
points_is_newest (struct points *p, uint64_t id)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = find (p, id);
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
  new = find (p, id);
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
  entry = find (p, id);
  if (entry == NULL || entry->use == POINTS_MERGING)
    return;
  entry->use = POINTS_MERGING;
  set_state (p, entry, CBW_POINT_MERGING);                          /* J1 */
  if (is_newest (p, entry))
    set_newest (p, find_before (p, id));                            /* J2 */
}

/* to |= from, as far as "to" reaches. */
static void
add_bits (const struct bitmap *to, const struct bitmap *from)
{
  const uint64_t end = min_u64 (to->nbits, from->nbits);
  uint64_t start, stop;

  for (start = 0; (start = bitmap_next_set (from, start, end)) < end;
       start = stop) {
    stop = bitmap_next_clear (from, start, end);
    bitmap_set (to, start, stop);
  }
}

void
points_merge (struct points *p, uint64_t id)
{
  struct points_entry *entry;
  struct bitmap from, to = { .nbits = 0 };
  const struct points_entry *before;

  {
    LOCK_FOR_SCOPE (&p->lock);
    entry = find (p, id);
    if (entry == NULL)
      return;
    assert (entry->use == POINTS_MERGING);
    from = changed_of (p, entry);
    before = find_before (p, id);
    if (before)
      to = changed_of (p, before);
  }
  /* Without the lock: engine->control keeps both where they are. */
  add_bits (&to, &from);                                            /* J3 */
  points_persist (p);
  LOCK_FOR_SCOPE (&p->lock);
  set_state (p, entry, CBW_POINT_EMPTY);                            /* J4 */
  entry->use = POINTS_FREE;
}

void
points_mark_from (struct points *p, uint64_t id, uint64_t offset,
                  uint64_t count)
{
  const uint64_t start = offset / p->cluster_size;
  const uint64_t end = (offset + count + p->cluster_size - 1) /
    p->cluster_size;
  const struct points_entry *entry, *first;
  struct bitmap bits;

  LOCK_FOR_SCOPE (&p->lock);
  first = find_before (p, id + 1);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry) {
    if (!is_made (entry) || (first && entry->id < first->id))
      continue;
    bits = changed_of (p, entry);
    if (start < min_u64 (end, bits.nbits))
      bitmap_set (&bits, start, min_u64 (end, bits.nbits));
  }
}

uint64_t
points_newest (struct points *p)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = find_before (p, UINT64_MAX);
  return entry ? entry->id : 0;
}

/* The lock is held. */
static void
invalidate (struct points *p, const struct points_entry *entry,
            uint32_t reason)
{
  log_error ("cbw: changes since \"%s\" are not known any more: %s",
             entry->name, point_reason (reason));
  shared (p, entry)->reason = reason;
  set_state (p, entry, CBW_POINT_INVALID);
}

void
points_doubt (struct points *p, uint32_t reason)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED &&
        atomic_load (&shared (p, entry)->state) == CBW_POINT_VALID)
      invalidate (p, entry, reason);
}

bool
points_persist (struct points *p)
{
  const int r = p->durable ? segment_write_back (p->segment) : 0;

  if (r == 0)
    return true;
  errno = r;
  log_error ("cbw: %s: cannot be written to disk: %m", p->segment->path);
  points_doubt (p, CBW_POINT_SEGMENT);
  return false;
}

/* ---- At a takeover ---- */

int
points_look (const struct segment *segment, bool torn,
             struct points_found *found, struct error *e)
{
  struct point copy;
  unsigned i;
  size_t j;

  found->nr = point_list (&segment->map, found->list);
  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (&segment->map, i, &copy) == POINT_DAMAGED && !torn)
      return error_set (e, EBADMSG, "%s: is corrupt: entry %u of its table of "
                        "points is damaged; remove the segment to start anew",
                        segment->path, i);
  for (j = 0; j < found->nr; ++j)
    if ((j > 0 && (found->list[j].id == found->list[j - 1].id ||
                   found->list[j].size < found->list[j - 1].size)) ||
        segment->map.changed[found->list[j].index] == 0)
      return error_set (e, EBADMSG, "%s: is corrupt: the point \"%s\" does not "
                        "fit the others; remove the segment to start anew",
                        segment->path, found->list[j].name);
  return 0;
}

static void
adopt (struct points *p, const struct point *copy, uint32_t doubt)
{
  struct points_entry *entry = &p->entries[copy->index];

  *entry = (struct points_entry) {
    .use = copy->state == CBW_POINT_MERGING ? POINTS_MERGING : POINTS_USED,
    .id = copy->id, .size = copy->size, .flags = copy->flags,
  };
  memcpy (entry->uuid, copy->uuid, sizeof entry->uuid);
  memcpy (entry->name, copy->name, sizeof entry->name);
  LOG_WATCH (takeover, "point \"%s\" (id %" PRIu64 "), state %d", copy->name,
             copy->id, (int) copy->state);
  if (copy->state == CBW_POINT_VALID && doubt != 0)
    invalidate (p, entry, doubt);
}

/* What was damaged is free for another. */
static void
clear_others (struct points *p)
{
  const struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_FREE)
      set_state (p, entry, CBW_POINT_EMPTY);
}

uint64_t
points_inherit (struct points *p, const struct points_found *found,
                uint32_t doubt)
{
  size_t j;

  for (j = 0; j < found->nr; ++j)
    adopt (p, &found->list[j], doubt);
  clear_others (p);
  /* The oldest first: what is before it is no such one then. */
  for (j = 0; j < found->nr; ++j)
    if (found->list[j].state == CBW_POINT_MERGING)
      points_merge (p, found->list[j].id);
  LOCK_FOR_SCOPE (&p->lock);
  if (p->track)
    set_newest (p, find_before (p, UINT64_MAX));
  return found->nr > 0 ? found->list[found->nr - 1].id : 0;
}
