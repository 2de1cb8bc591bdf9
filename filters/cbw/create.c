/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "access.h"
#include "cleanup.h"
#include "clock.h"
#include "lifecycle.h"
#include "segment-server.h"
#include "snaptab.h"
#include "target.h"

/* A free entry, or NULL with the error set if p cannot be made.  *exists
 * if p has been made before.
 */
static struct cbw_snapshot *
find_entry (const struct segment *segment, const struct create_params *p,
            unsigned *index, bool *exists, struct error *e)
{
  const struct cbw_map *m = &segment->map;
  struct cbw_snapshot *entry, *found = NULL;
  unsigned i;
  uint32_t state;

  *exists = false;
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    entry = map_snapshot (m, i);
    state = atomic_load (&entry->state);
    if (state == CBW_SNAPSHOT_EMPTY && found == NULL) {
      found = entry;
      *index = i;
    }
    if (state == CBW_SNAPSHOT_EMPTY || state == CBW_SNAPSHOT_RESERVED)
      continue;
    /* Files are told apart, and moved aside; of a server's export nothing
     * is known but its name.
     */
    if (entry->target_kind == CBW_TARGET_NBD &&
        strcmp (entry->target, p->target) == 0 &&
        memcmp (entry->uuid, p->uuid, sizeof p->uuid) != 0) {
      error_set (e, EBUSY, "%s: is the target of %ssnapshot \"%s\"; choose "
                 "another", p->target, state == CBW_SNAPSHOT_HIDDEN ?
                 "the dropped " : "", entry->name);
      return NULL;
    }
    if (state == CBW_SNAPSHOT_HIDDEN)
      continue;
    if (memcmp (entry->uuid, p->uuid, sizeof p->uuid) == 0) {
      *exists = true;
      return entry;
    }
    if (strcmp (entry->name, p->name) == 0) {
      error_set (e, EEXIST, "%s: there is a snapshot \"%s\" already; drop "
                 "it, or choose another name", segment->path, p->name);
      return NULL;
    }
  }
  if (found == NULL)
    error_set (e, ENOSPC, "%s: the table of %d snapshots is full; drop one "
               "first (hidden ones count until the older ones are dropped)",
               segment->path, CBW_NR_SNAPSHOTS);
  return found;
}

static int
check_size (const struct segment *segment, uint64_t size, struct error *e)
{
  const struct cbw_geometry *g = &segment->map.geometry;

  if (!layout_has_room (g, size))
    return error_set (e, EFBIG, "%s: was made for a disk of %" PRIu64
                      " bytes, and it has grown to %" PRIu64
                      "; remove the segment to take new snapshots",
                      segment->path, g->disk_size, size);
  return 0;
}

/* Write the fixed part of a free entry and reserve it. */
static void
reserve (const struct cbw_map *m, struct cbw_snapshot *entry,
         const struct create_params *p, uint64_t size)
{
  memset (entry, 0, sizeof *entry);
  entry->id = map_header (m)->next_snapshot_id++;
  entry->size = size;
  entry->created_ns = now_realtime_ns ();
  memcpy (entry->uuid, p->uuid, sizeof entry->uuid);
  strncpy (entry->name, p->name, sizeof entry->name - 1);
  strncpy (entry->target, p->target, sizeof entry->target - 1);
  entry->target_kind = target_kind (p->target);
  entry->target_created = entry->target_kind == CBW_TARGET_RAW &&
    access (p->target, F_OK) == -1;
  entry->owner = p->owner;
  entry->options = p->options;
  if (p->options.backup) {
    atomic_store (&entry->fill.speed, p->speed);
    atomic_store (&entry->fill.state, CBW_FILL_RUNNING);
  }
  entry->sum = snaptab_sum (entry);
  atomic_store_explicit (&entry->state, CBW_SNAPSHOT_RESERVED,
                         memory_order_release);
}

static int
set_access (struct snapshot *snap, const char *path, struct error *e)
{
  const uint64_t n = snapshot_clusters (snap);

  if (path == NULL)
    bitmap_set (&snap->access, 0, n);
  else if (access_load (path, snap->size, snap->cluster_size, &snap->access,
                        e) == -1)
    return -1;
  return 0;
}

int
create_snapshot (struct engine *engine, struct segment *segment,
                 const struct create_params *p, uint64_t size,
                 uint64_t *held_ns, struct error *e)
{
  const struct cbw_map *m = &segment->map;
  struct cbw_snapshot *entry;
  struct snapshot *snap = NULL;
  bool created = false, exists;
  unsigned i;

  LOCK_FOR_SCOPE (&engine->control);
  *held_ns = 0;
  entry = find_entry (segment, p, &i, &exists, e);
  if (entry == NULL)
    return -1;
  if (exists)
    return 0;
  if (check_size (segment, size, e) == -1)
    return -1;
  if (engine->writeback.accept &&
      p->options.on_error == CBW_ON_ERROR_BREAK_GUEST_WRITE)
    return error_set (e, EINVAL, "%s: its server has cbw-writeback: guests' "
                      "writes end before their old data is in the target, "
                      "and cannot fail with it; use on-error=break-snapshot",
                      segment->path);

  reserve (m, entry, p, size);
  if (segment_allocate_bitmaps (segment, i, e) == -1)
    goto undo;
  snap = snapshot_new (m, i);
  if (snap == NULL) {
    error_set_errno (e, ENOMEM, "snapshot \"%s\"", p->name);
    goto undo;
  }
  /* What can fail for another reason comes before the target. */
  if (set_access (snap, p->access, e) == -1)
    goto undo;
  snap->target = target_make (entry, snap->cluster_size,
                              p->flags & CBW_CREATE_FORCE, &created, e);
  if (snap->target == NULL ||
      writeback_wrap (&engine->writeback, snap, false, e) == -1)
    goto undo;
  if (engine_add_snapshot (engine, snap, held_ns) == -1) {
    error_set_errno (e, ENOMEM, "snapshot \"%s\"", p->name);
    goto undo;
  }
  /* Live already: without threads to fill it, it waits for a restart. */
  if (fill_add (&engine->fill, snap, e) == -1)
    nbdkit_error ("cbw: %s", e->msg);
  snapshot_unref (snap);        /* the chain has its own */
  return 0;

 undo:
  if (created)
    target_undo (entry, snap->target);
  snapshot_unref (snap);
  atomic_store (&entry->state, CBW_SNAPSHOT_EMPTY);
  return -1;
}
