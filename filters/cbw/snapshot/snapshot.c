/* SPDX-License-Identifier: BSD-3-Clause */

/* The life of one snapshot.  Its state goes forward only:
 * broken and hidden are final.
 */

#include <config.h>

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "below/log.h"
#include "segment/entry.h"
#include "snapshot/accounting.h"
#include "snapshot/closer.h"
#include "snapshot/generation.h"
#include "snapshot/snapshot.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* Around changes from LIVE and BROKEN, which any guest thread may make. */
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;

struct snapshot *
snapshot_new (const struct cbw_map *m, unsigned i,
              const struct cbw_snapshot *fixed)
{
  struct cbw_snapshot *entry = map_snapshot (m, i);
  struct snapshot *snap = calloc (1, sizeof *snap);

  if (snap == NULL)
    return NULL;
  atomic_init (&snap->refs, 1);
  snap->entry = entry;
  memcpy (&snap->fixed, fixed, sizeof snap->fixed);
  atomic_init (&snap->state, atomic_load (&snap->fixed.state));
  atomic_init (&snap->complete, entry_is_complete (fixed));
  snap->view = (struct view) {
    .id = fixed->id,
    .size = fixed->size,
    .cluster_size = m->geometry.cluster_size,
    .backup = fixed->options.backup,
    .state = &snap->state,
    .access = map_bitmap (m, i, CBW_BITMAP_ACCESS, fixed->size),
    .done = map_bitmap (m, i, CBW_BITMAP_DONE, fixed->size),
  };
  snap->settled = map_bitmap (m, i, CBW_BITMAP_SETTLED, fixed->size);
  if (snapshot_is_backup (snap))
    snap->moved = map_bitmap (m, i, CBW_BITMAP_MOVED, fixed->size);
  return snap;
}

void
snapshot_write_fixed (struct snapshot *snap)
{
  snap->fixed.sum = entry_sum (&snap->fixed);
  memcpy (snap->entry, &snap->fixed, offsetof (struct cbw_snapshot, state));
}

void
snapshot_ref (struct snapshot *snap)
{
  const unsigned refs =
    atomic_fetch_add_explicit (&snap->refs, 1, memory_order_relaxed);

  assert (refs > 0);
}

void
snapshot_unref (struct snapshot *snap)
{
  unsigned refs;

  if (snap == NULL)
    return;
  refs = atomic_fetch_sub_explicit (&snap->refs, 1, memory_order_acq_rel);
  assert (refs > 0);
  if (refs > 1)
    return;
  if (snap->closer == NULL || !closer_add (snap->closer, snap))
    snapshot_end (snap);
}

void
snapshot_end (struct snapshot *snap)
{
  const bool nbd = snap->fixed.target_kind == CBW_TARGET_NBD;

  /* Before what readers may hold is used for something else. */
  if (atomic_load (&snap->retired) && snap->generation)
    generation_bump (snap->generation);                         /* E4 */
  if (atomic_load (&snap->retired) && !snapshot_is_complete (snap))
    target_discard (&snap->fixed, snap->target);
  if (snap->view.store != snap->target)
    snap->view.store->ops->close (snap->view.store);
  /* An NBD server must have gone before another snapshot may use it. */
  if (snap->target && nbd)
    snap->target->ops->close (snap->target);
  /* Before the file goes: another of the same name may get its inode, and
   * must not be taken for this entry's target if the server dies now.
   */
  if (atomic_load (&snap->retired))
    snapshot_set_state (snap, CBW_SNAPSHOT_EMPTY);
  if (snap->target && !nbd)
    snap->target->ops->close (snap->target);
  LOG_WATCH (end, "snapshot \"%s\" is closed%s", snap->fixed.name,
             atomic_load (&snap->retired) ? ", and its entry free" : "");
  free (snap);
}

uint64_t
snapshot_next_unsettled (const struct snapshot *snap, uint64_t c,
                         uint64_t end)
{
  uint64_t next;

  for (;; c = next) {
    c = bitmap_next_clear (&snap->view.done, c, end);
    next = bitmap_next_clear (&snap->moved, c, end);
    if (next == c)
      return c;
  }
}

uint64_t
snapshot_next_settled (const struct snapshot *snap, uint64_t c, uint64_t end)
{
  end = bitmap_next_set (&snap->view.done, c, end);
  return bitmap_next_set (&snap->moved, c, end);
}

/* Keep the first error: true if this is it.  state_lock is held. */
static bool
record_failure (struct cbw_snapshot *entry, enum cbw_broken_reason reason,
                int num, uint64_t offset)
{
  if (atomic_load (&entry->failed))
    return false;
  entry->error_num = num;
  entry->error_reason = reason;
  entry->error_offset = offset;
  entry->error_ns = now_realtime_ns ();
  atomic_store (&entry->failed, 1);
  return true;
}

void
snapshot_break (struct snapshot *snap, enum cbw_broken_reason reason,
                int num, uint64_t offset, const char *msg)
{
  struct cbw_snapshot *entry = snap->entry;

  LOCK_FOR_SCOPE (&state_lock);
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return;
  record_failure (entry, reason, num, offset);
  snapshot_set_state (snap, CBW_SNAPSHOT_BROKEN);
  log_error ("cbw: snapshot \"%s\" is broken: %s "
             "(the disk itself is not affected)", snap->fixed.name, msg);
}

enum snapshot_failure
snapshot_record_failure (struct snapshot *snap, int num, uint64_t offset)
{
  LOCK_FOR_SCOPE (&state_lock);
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return SNAPSHOT_NEEDS_NOTHING;
  return record_failure (snap->entry, CBW_BROKEN_COPY, num, offset) ?
    SNAPSHOT_FAILED_FIRST : SNAPSHOT_FAILED_AGAIN;
}

void
snapshot_punch (struct snapshot *snap, uint64_t start, uint64_t end)
{
  const uint64_t offset = start * snap->view.cluster_size;
  const uint64_t limit = min_u64 (end * snap->view.cluster_size,
                                  snap->view.size);
  struct image *store = snap->view.store;
  uint64_t freed = 0;
  struct error e;

  assert (start <= end);
  if (offset >= limit)
    return;
  /* What of it was data no longer counts against the quota.  The store counts
   * what waits to be written.
   */
  accounting_data (snap->target, offset, limit, &freed);
  if (store->ops->punch (store, offset, limit - offset, &e) == -1)
    log_debug ("cbw: %s", e.msg);
  else
    accounting_give_back (snap, freed);
}

static bool
set_complete (struct snapshot *snap, bool published)
{
  struct cbw_job *job = &snap->entry->job;

  LOCK_FOR_SCOPE (&state_lock);
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE &&
      !(published && snapshot_state (snap) == CBW_SNAPSHOT_HIDDEN))
    return false;
  job->end_ns = now_realtime_ns ();
  atomic_store (&job->state, CBW_JOB_COMPLETE);
  atomic_store (&snap->complete, true);
  return true;
}

bool
snapshot_complete (struct snapshot *snap, bool published)
{
  if (!set_complete (snap, published))
    return false;
  /* After a crash of the host it must not be taken for one that was under way.
   * (Nothing happens if it is in memory.)  Without the lock: guests' threads
   * take that, and a disk may take long.
   */
  msync ((void *) ((uintptr_t) snap->entry & ~(uintptr_t) (CBW_PAGE - 1)),
         CBW_PAGE, MS_SYNC);
  return true;
}

void
snapshot_hide (struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&state_lock);

  snapshot_set_state (snap, CBW_SNAPSHOT_HIDDEN);
  LOG_WATCH (end, "snapshot \"%s\" is hidden", snap->fixed.name);
}
