/* SPDX-License-Identifier: BSD-3-Clause */

/* Copying clusters where a change of an earlier time may yet land. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "copy/transfer.h"
#include "guest/suspects.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* Clusters [start, end), in order, of the i-th suspect range in "snap" that
 * are not of an earlier one.  Returns false if there are none.
 */
static bool
clusters_of (const struct inflight *f, size_t i, const struct snapshot *snap,
             uint64_t *start, uint64_t *end)
{
  const struct inflight_range *r = &f->ranges[i];
  const uint64_t cs = snap->view.cluster_size;
  const uint64_t limit = min_u64 (r->end, snap->view.size);

  if (r->start >= limit)
    return false;
  *start = r->start / cs;
  *end = (limit + cs - 1) / cs;
  if (i > 0)
    *start = max_u64 (*start, (f->ranges[i - 1].end + cs - 1) / cs);
  return *start < *end;
}

/* Copy a piece; a worker does, so that it ends in time.  Nobody else knows the
 * snapshot yet, so there is no claim.  It does not go to the write-back buffer:
 * a drain thread would find the snapshot in no chain, and throw it away (B2).
 */
static int
copy_piece (struct engine *e, struct snapshot *snap, uint64_t start,
            uint64_t end, uint64_t since, struct error *error)
{
  struct transfer t = {
    .snap = snap, .start = start, .end = end, .to = snap->target,
  };
  uint64_t c;

  switch (deadline_transfer (&e->copier.deadline, &t, since, SUSPECTS_NS,
                             error)) {
  case TRANSFER_DONE:
    transfer_set_done (&t, NULL);
    return 0;
  case TRANSFER_READ_FAILED:
    if (!snap->fixed.options.backup)
      break;
    return -1;
  default:
    return -1;
  }
  if (end - start == 1) {
    log_error ("cbw: snapshot \"%s\" will have no data at offset %" PRIu64
               ": the disk cannot be read there", snap->fixed.name,
               start * snap->view.cluster_size);
    bitmap_clear (&snap->view.access, start, end);
    return 0;
  }
  for (c = start; c < end; ++c)
    if (copy_piece (e, snap, c, c + 1, since, error) == -1)
      return -1;
  return 0;
}

/* Those of [start, end) that may be read. */
static int
copy_clusters (struct engine *e, struct snapshot *snap, uint64_t start,
               uint64_t end, uint64_t since, struct error *error)
{
  uint64_t stop;

  for (;; start = stop) {
    start = bitmap_next_set (&snap->view.access, start, end);
    if (start == end)
      return 0;
    stop = bitmap_next_clear (&snap->view.access, start, end);
    stop = min_u64 (stop, start + piece_clusters (snap));
    if (copy_piece (e, snap, start, stop, since, error) == -1)
      return -1;
  }
}

/* What to do about it is the same, whatever went wrong. */
#define WAY_OUT "when the disk's server has surely ended the writes that an " \
  "earlier connection left there (it was started anew, for example), stop " \
  "this server, remove the segment, and start with a new one"

int
suspects_copy (struct engine *e, struct snapshot *snap, struct error *error)
{
  struct inflight *f = &e->inflight;
  const uint64_t since = now_monotonic_ns ();
  uint64_t start, end, total = 0;
  struct error why;
  size_t i;

  if (atomic_load (&f->nr_suspects) == 0)
    return 0;
  LOCK_FOR_SCOPE (&f->lock);
  inflight_collect (f);
  for (i = 0; i < f->nr_ranges; ++i)
    if (clusters_of (f, i, snap, &start, &end))
      total += snapshot_bytes (snap, start, end);
  if (total > SUSPECTS_MAX)
    return error_set (error, EBUSY, "writes to %" PRIu64 " KiB of the disk "
                      "were left under way when a connection to it ended, and "
                      "could change a new snapshot; up to %" PRIu64 " KiB can be "
                      "preserved at once; " WAY_OUT, total / 1024,
                      SUSPECTS_MAX / 1024);
  for (i = 0; i < f->nr_ranges; ++i)
    if (clusters_of (f, i, snap, &start, &end) &&
        copy_clusters (e, snap, start, end, since, &why) == -1)
      return error_set (error, why.num == ETIMEDOUT ? EBUSY : why.num,
                        "%s; it must be preserved at once, as a write was left "
                        "under way there when a connection to the disk ended; "
                        "try again, or " WAY_OUT, why.msg);
  return 0;
}

int
suspects_preserve (struct engine *e, struct error *error)
{
  struct inflight *f = &e->inflight;
  const struct inflight_range *r;
  struct guest_change change;
  size_t i;
  int err;

  LOCK_FOR_SCOPE (&f->lock);
  inflight_collect (f);
  for (i = 0; i < f->nr_ranges; ++i) {
    r = &f->ranges[i];
    err = engine_guest_begin (e, &e->source.image, r->start, r->end - r->start,
                              GUEST_ZERO, NULL, &change);
    if (err != 0)
      return error_set_errno (error, err, "cannot preserve the disk at offset "
                              "%" PRIu64 ", where a write was left under way "
                              "when a connection to it ended, for a snapshot "
                              "with on-error=break-guest-write", r->start);
    engine_guest_end (e, &change, false);
  }
  return 0;
}

void
suspects_mark (struct engine *e)
{
  struct inflight *f = &e->inflight;
  size_t i;

  if (atomic_load (&f->nr_suspects) == 0)
    return;
  LOCK_FOR_SCOPE (&f->lock);
  inflight_collect (f);
  for (i = 0; i < f->nr_ranges; ++i)
    points_mark (&e->points, f->ranges[i].start,
                 f->ranges[i].end - f->ranges[i].start);
}
