/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <pthread.h>
#include <stdlib.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "clock.h"
#include "snapshot.h"

/* Around changes from LIVE and BROKEN, which any guest thread may make. */
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;

struct snapshot *
snapshot_new (const struct cbw_map *m, unsigned i)
{
  struct cbw_snapshot *entry = map_snapshot (m, i);
  struct snapshot *snap = calloc (1, sizeof *snap);

  if (snap == NULL)
    return NULL;
  atomic_init (&snap->refs, 1);
  snap->entry = entry;
  snap->id = entry->id;
  snap->size = entry->size;
  snap->cluster_size = m->geometry.cluster_size;
  snap->access = map_bitmap (m, i, CBW_BITMAP_ACCESS, entry->size);
  snap->done = map_bitmap (m, i, CBW_BITMAP_DONE, entry->size);
  snap->dirty = map_bitmap (m, i, CBW_BITMAP_DIRTY, entry->size);
  return snap;
}

void
snapshot_ref (struct snapshot *snap)
{
  atomic_fetch_add_explicit (&snap->refs, 1, memory_order_relaxed);
}

void
snapshot_unref (struct snapshot *snap)
{
  if (snap == NULL ||
      atomic_fetch_sub_explicit (&snap->refs, 1, memory_order_acq_rel) > 1)
    return;
  /* Before the file goes: another of the same name may get its inode, and
   * must not be taken for this entry's target if the server dies now.
   */
  if (atomic_load (&snap->retired))
    atomic_store (&snap->entry->state, CBW_SNAPSHOT_EMPTY);
  if (snap->target)
    snap->target->ops->close (snap->target);
  free (snap);
}

void
snapshot_break (struct snapshot *snap, enum cbw_broken_reason reason,
                int num, uint64_t offset, const char *msg)
{
  struct cbw_snapshot *entry = snap->entry;

  LOCK_FOR_SCOPE (&state_lock);
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return;
  entry->error_num = num;
  entry->error_reason = reason;
  entry->error_offset = offset;
  entry->error_ns = now_realtime_ns ();
  atomic_store (&entry->state, CBW_SNAPSHOT_BROKEN);
  nbdkit_error ("cbw: snapshot \"%s\" is broken: %s "
                "(the disk itself is not affected)", entry->name, msg);
}

void
snapshot_hide (struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&state_lock);

  atomic_store (&snap->entry->state, CBW_SNAPSHOT_HIDDEN);
}
