/* SPDX-License-Identifier: BSD-3-Clause */

/* What has been copied, and what targets hold.  Copies, drain threads and
 * what punches targets call this.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "snapshot/accounting.h"
#include "utils/rounding.h"

int
accounting_hold (const struct snapshot *snap, uint64_t count, struct error *e)
{
  const uint64_t quota = snap->fixed.options.quota;
  const uint64_t held =
    atomic_fetch_add_explicit (&snap->entry->held_bytes, count,
                               memory_order_relaxed);

  if (quota == 0 || held + count <= quota)
    return 0;
  accounting_give_back (snap, count);
  return error_set (e, EDQUOT, "%s: would hold more than its quota of %" PRIu64
                    " bytes", snap->fixed.target, quota);
}

void
accounting_give_back (const struct snapshot *snap, uint64_t count)
{
  _Atomic (uint64_t) *held = &snap->entry->held_bytes;
  uint64_t old = atomic_load_explicit (held, memory_order_relaxed);

  /* Never below 0: after a takeover it may be less than there is. */
  while (!atomic_compare_exchange_weak (held, &old,
                                        old - min_u64 (old, count)))
    ;
}

void
accounting_done (const struct snapshot *snap, uint64_t clusters, uint64_t held)
{
  atomic_fetch_add (&snap->entry->copied_clusters, clusters);
  atomic_fetch_add (&snap->entry->copied_bytes, held);
}

void
accounting_moved (const struct snapshot *snap, uint64_t clusters,
                  uint64_t held)
{
  atomic_fetch_add (&snap->entry->job.moved_clusters, clusters);
  atomic_fetch_add (&snap->entry->copied_bytes, held);
}

bool
accounting_data (struct image *image, uint64_t offset, uint64_t end,
                 uint64_t *bytes)
{
  struct error e;
  uint64_t next;
  bool data;

  for (; offset < end; offset = next) {
    if (image->ops->extent (image, offset, end, &next, &data, &e) == -1)
      return false;
    if (data)
      *bytes += next - offset;
  }
  return true;
}

void
accounting_recount_held (const struct snapshot *snap)
{
  const uint64_t n = snapshot_clusters (snap), cs = snap->view.cluster_size;
  const bool has_quota = snap->fixed.options.quota != 0;
  /* To ask takes long where there is much: only if it matters. */
  bool known = has_quota;
  uint64_t most = 0, data = 0, c, end;

  if (snapshot_is_backup (snap))
    return;
  for (c = bitmap_next_set (&snap->view.done, 0, n); c < n;
       c = bitmap_next_set (&snap->view.done, end, n)) {
    end = bitmap_next_clear (&snap->view.done, c, n);
    most += snapshot_bytes (snap, c, end);
    if (known)
      known = accounting_data (snap->view.store, c * cs,
                               c * cs + snapshot_bytes (snap, c, end),
                               &data);
  }
  if (!known)
    data = min_u64 (atomic_load (&snap->entry->held_bytes), most);
  atomic_store (&snap->entry->held_bytes, data);
}

void
accounting_recount_backup (const struct snapshot *snap)
{
  const uint64_t n = snapshot_clusters (snap);

  atomic_store (&snap->entry->copied_clusters,
                bitmap_count (&snap->view.done, 0, n));
  atomic_store (&snap->entry->job.moved_clusters,
                bitmap_count (&snap->moved, 0, n));
}
