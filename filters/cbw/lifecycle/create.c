/* SPDX-License-Identifier: BSD-3-Clause */

/* Taking a snapshot: reserve an entry, make the target, go live. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "below/log.h"
#include "lifecycle/access.h"
#include "lifecycle/cool.h"
#include "lifecycle/increment.h"
#include "lifecycle/lifecycle.h"
#include "segment/segment-server.h"
#include "segment/entry.h"
#include "snapshot/policy.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

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

/* What is fixed of the entry from now on, but for what comes with the target
 * and with the moment of the snapshot.
 */
static void
describe (struct cbw_snapshot *fixed, const struct create_params *p,
          uint64_t size)
{
  memset (fixed, 0, sizeof *fixed);
  fixed->size = size;
  memcpy (fixed->uuid, p->uuid, sizeof fixed->uuid);
  strncpy (fixed->name, p->name, sizeof fixed->name - 1);
  strncpy (fixed->target, p->target, sizeof fixed->target - 1);
  fixed->target_kind = target_kind (p->target);
  /* Of a backup that is a file with a name of its own, in any case. */
  fixed->target_created = fixed->target_kind == CBW_TARGET_RAW &&
    (p->options.backup || (p->flags & CBW_CREATE_FORCE) ||
     access (p->target, F_OK) == -1);
  fixed->owner = p->owner;
  fixed->options = p->options;
  if (p->options.backup)
    fixed->job.kind = CBW_JOB_BACKUP;
  atomic_init (&fixed->state, CBW_SNAPSHOT_RESERVED);
}

/* Reserve the entry in the segment: what a server that dies here has begun is
 * undone by the next.
 */
static void
reserve (struct engine *engine, struct cbw_snapshot *entry,
         struct cbw_snapshot *fixed, const struct create_params *p)
{
  generation_bump (&engine->generation);                        /* E4 */
  memset (entry, 0, sizeof *entry);
  fixed->sum = entry_sum (fixed);
  memcpy (entry, fixed, offsetof (struct cbw_snapshot, state));
  memcpy (&entry->increment, &fixed->increment, sizeof entry->increment);
  if (p->options.backup) {
    entry->job.kind = CBW_JOB_BACKUP;
    atomic_store (&entry->job.speed, p->speed);
    atomic_store (&entry->job.state, CBW_JOB_RUNNING);
  }
  atomic_store_explicit (&entry->state, CBW_SNAPSHOT_RESERVED,
                         memory_order_release);
}

static int
set_access (struct snapshot *snap, const char *path, struct error *e)
{
  const uint64_t n = snapshot_clusters (snap);

  if (path == NULL)
    bitmap_set (&snap->view.access, 0, n);
  else if (access_load (path, snap->view.size, snap->view.cluster_size,
                        &snap->view.access, e) == -1)
    return -1;
  return 0;
}

/* What may take long: without a lock. */
static int
prepare (struct engine *engine, struct snapshot *snap,
         const struct create_params *p, bool *created, struct error *e)
{
  /* What can fail for another reason comes before the target. */
  if (set_access (snap, p->access, e) == -1)
    return -1;
  if (increment_target (p, snap, created, e) == -1)
    return -1;
  snapshot_write_fixed (snap);
  return writeback_set_store (&engine->writeback, snap, false, e);
}

/* The moment of the snapshot.  Its id says its place in the chain, so both
 * come under one lock.
 */
static int
go_live (struct engine *engine, struct segment *segment, unsigned i,
         struct snapshot *snap, const struct points_draft *draft,
         uint64_t hold_ns, uint64_t *held_ns, struct error *e)
{
  struct engine_cut cut = {
    .snap = snap, .draft = draft, .size = snap->view.size,
  };

  LOCK_FOR_SCOPE (&engine->control);
  cut.id = table_new_id (&engine->table, i);
  cut.created_ns = now_realtime_ns ();
  map_header (&segment->map)->next_snapshot_id = cut.id + 1;
  snap->view.id = snap->fixed.id = cut.id;
  snap->fixed.created_ns = cut.created_ns;
  snapshot_write_fixed (snap);
  if (engine_cut (engine, &cut, hold_ns, held_ns, e) == -1)
    return -1;
  table_used (&engine->table, i);
  /* From that of an older backup this one may count (drop.c). */
  if (!snapshot_is_backup (snap))
    drop_replaced_point (engine, cut.id);
  return 0;
}

int
create_snapshot (struct engine *engine, struct segment *segment,
                 const struct create_params *p, uint64_t size,
                 uint64_t *held_ns, struct error *e)
{
  const uint32_t flags = p->options.backup ? CBW_POINT_BACKUP : 0;
  struct points_draft draft = { .wanted = false };
  struct cbw_snapshot fixed;
  struct snapshot *snap = NULL;
  bool created = false;
  struct error ignored;
  uint64_t id;
  unsigned i;

  *held_ns = 0;
  if (check_size (segment, size, e) == -1)
    return -1;
  if (engine->writeback.accept &&
      !policy_allows_writeback (&p->options))
    return error_set (e, EINVAL, "%s: its server has cbw-writeback: guests' "
                      "writes end before their old data is in the target, "
                      "and cannot fail with it; use on-error=break-snapshot",
                      segment->path);
  describe (&fixed, p, size);
  /* Their names may be used again, and their targets. */
  release_complete (engine, p->hold_ns);
  table_wait_target (&engine->table, p->target, END_WAIT);
  switch (table_reserve (&engine->table, segment->path, &fixed, &i, e)) {
  case TABLE_EXISTS: return 0;
  case TABLE_ERROR: return -1;
  case TABLE_RESERVED: break;
  }
  /* Only now: if the request is made again, the image is this backup's. */
  if (increment_choose (engine, p, &fixed, e) == -1) {
    table_free (&engine->table, i);
    return -1;
  }

  reserve (engine, map_snapshot (&segment->map, i), &fixed, p);
  if (segment_allocate_bitmaps (segment, i, layout_bitmaps (&p->options),
                                e) == -1 ||
      draft_point (engine, p->name, p->uuid, flags, fixed.increment.since,
                   &draft, e) == -1)
    goto undo;
  snap = snapshot_new (&segment->map, i, &fixed);
  if (snap == NULL) {
    error_set_errno (e, ENOMEM, "snapshot \"%s\"", p->name);
    goto undo;
  }
  if (prepare (engine, snap, p, &created, e) == -1 ||
      go_live (engine, segment, i, snap, &draft, p->hold_ns, held_ns,
               e) == -1)
    goto undo;
  snap->closer = &engine->closer;
  cool_confirm (engine, snap->view.id);
  if (increment_begin (engine, snap, p->flags & CBW_CREATE_FORCE, e) == -1) {
    id = snap->view.id;
    snapshot_unref (snap);
    drop_snapshot (engine, segment, id, false, p->hold_ns, &ignored);
    return -1;
  }
  /* Live already: without threads to fill it, it waits for a restart. */
  if (fill_add (&engine->fill, snap, &ignored) == -1)
    log_error ("cbw: %s", ignored.msg);
  snapshot_unref (snap);        /* the chain has its own */
  return 0;

 undo:
  points_undo (&engine->points, &draft);
  if (created)
    target_undo (&snap->fixed, snap->target);
  if (snap && snap->view.id != 0) {
    /* A copy that took too long may still use it. */
    id = snap->view.id;
    snap->closer = &engine->closer;
    retire_snapshot (engine, snap, false);
    table_wait_ended (&engine->table, id, END_WAIT);
    return -1;
  }
  atomic_store (&map_snapshot (&segment->map, i)->state, CBW_SNAPSHOT_EMPTY);
  snapshot_unref (snap);
  table_free (&engine->table, i);
  return -1;
}
