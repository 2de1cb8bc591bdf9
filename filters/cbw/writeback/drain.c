/* SPDX-License-Identifier: BSD-3-Clause */

/* Bringing the cells of the write-back buffer to their targets, the oldest
 * first, and its neighbours with it.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "copy/transfer.h"
#include "snapshot/accounting.h"
#include "snapshot/policy.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"
#include "writeback/writeback-private.h"

/* How often a full target is tried again. */
#define STALL_INTERVAL (50 * NS_PER_MS)

#define RUN_MAX (PIECE_SIZE / CBW_CLUSTER_SIZE_MIN)

/* Neighbouring clusters of one snapshot, busy, and a reference to that. */
struct run {
  struct writeback_image *wi;
  uint64_t start, end;
  struct cell *cells[RUN_MAX];
  bool written[RUN_MAX];        /* else nobody needed it */
};

/* The image whose turn it is: one which has cells that wait, and not as many
 * threads as it may.  It is the last the next time.  The lock is held.
 */
static struct writeback_image *
take_turn (struct writeback *w)
{
  struct writeback_image **p = &w->images, *wi;

  while (*p && ((*p)->queue.first == NULL ||
                (*p)->threads == (*p)->threads_max))
    p = &(*p)->next;
  wi = *p;
  if (wi == NULL)
    return NULL;
  *p = wi->next;
  writeback_append (wi);
  return wi;
}

/* The cell of the cluster, if it waits to be written. */
static struct cell *
find_queued (const struct writeback *w, const struct writeback_image *wi,
             uint64_t cluster)
{
  struct cell *cell = cells_find (&w->cells, wi, cluster);

  return cell && cell->queued ? cell : NULL;
}

/* The lock is held. */
static void
take_run (struct writeback *w, struct writeback_image *wi, struct run *run)
{
  const struct cell *first = wi->queue.first;
  const uint64_t max = min_u64 (piece_clusters (wi->snap), RUN_MAX);
  struct cell *cell;

  wi->threads++;
  snapshot_ref (wi->snap);
  run->wi = wi;
  run->start = first->cluster;
  while (run->start > 0 && first->cluster - run->start + 1 < max &&
         find_queued (w, wi, run->start - 1))
    run->start--;
  for (run->end = run->start; run->end - run->start < max &&
         (cell = find_queued (w, wi, run->end)) != NULL; ++run->end) {
    cell_take (cell);
    run->cells[run->end - run->start] = cell;
    run->written[run->end - run->start] = false;
  }
}

/* Write clusters [start, end) of the run; buf has room for them. */
static int
write_cells (struct writeback *w, struct run *run, uint64_t start,
             uint64_t end, unsigned char *buf, struct error *e)
{
  const struct snapshot *snap = run->wi->snap;
  struct image *target = snap->target;
  const uint64_t cs = snap->view.cluster_size;
  const uint64_t len = snapshot_bytes (snap, start, end);
  const void *data = cell_data (&w->cells, run->cells[start - run->start]);
  uint64_t c;

  for (c = start; c < end; ++c) {
    run->written[c - run->start] = true;
    if (end - start > 1)
      memcpy (buf + (c - start) * cs,
              cell_data (&w->cells, run->cells[c - run->start]), cs);
  }
  return target->ops->pwrite (target, end - start > 1 ? buf : data, len,
                              start * cs, e);
}

/* Who reads cluster c, and up to *end, in the run's target?  Returns a
 * reference, or NULL.  The chain is not kept: it would hold what is dropped
 * meanwhile.
 */
static struct snapshot *
find_reader (struct writeback *w, const struct run *run, uint64_t c,
             uint64_t *end)
{
  struct chain *chain = chain_get (w->chain);
  const int j = chain_find (chain, run->wi->snap->view.id);
  struct snapshot *reader = NULL;

  *end = run->end;
  if (j >= 0)
    reader = chain_reader (chain, (size_t) j, c, run->end, end);
  if (reader)
    snapshot_ref (reader);
  chain_put (chain);
  return reader;
}

/* Break all snapshots that read [c, end) of the run. */
static void
break_readers (struct writeback *w, const struct run *run, uint64_t c,
               uint64_t end, const struct error *e)
{
  struct chain *chain = chain_get (w->chain);
  const int j = chain_find (chain, run->wi->snap->view.id);

  if (j >= 0)
    chain_lose_range (chain, (size_t) j, c, end, e);
  chain_put (chain);
}

/* What a snapshot needs could not be written: wait a little for space.
 * Returns false if that is not the reason, or it has been long enough.
 */
static bool
wait_for_space (struct writeback *w, struct snapshot *reader, int num,
                uint64_t since)
{
  const uint64_t now = now_monotonic_ns ();
  const struct timespec until = cond_until (now + STALL_INTERVAL);

  if (!policy_stalls (reader, num, now - since))
    return false;
  policy_stall (reader, now - since);
  LOCK_FOR_SCOPE (&w->lock);
  if (!w->stop)
    pthread_cond_timedwait (&w->drained, &w->lock, &until);
  return true;
}

/* The snapshot that waits, with a reference, or nobody does any more. */
static void
set_stalled (struct snapshot **stalled, struct snapshot *reader)
{
  if (*stalled && *stalled != reader)
    policy_unstall (*stalled);
  snapshot_unref (*stalled);
  *stalled = reader;
}

static bool
is_stopping (struct writeback *w)
{
  LOCK_FOR_SCOPE (&w->lock);
  return w->stop;
}

/* Bring the run to the target, or the part of it that a snapshot needs.  If
 * that fails, those snapshots are broken before the cells go.  Returns false
 * if the server stops: then the cells stay for the next one.
 */
static bool
drain_run (struct writeback *w, struct run *run, unsigned char *buf)
{
  uint64_t since = 0, c = run->start, end;
  struct snapshot *reader, *stalled = NULL;
  bool stop = false;
  struct error e;

  while (c < run->end && !stop) {
    reader = find_reader (w, run, c, &end);                         /* B2 */
    if (reader != stalled)
      set_stalled (&stalled, NULL);
    snapshot_unref (reader);    /* it may go while we write */
    if (reader == NULL ||
        write_cells (w, run, c, end, buf, &e) == 0) {               /* B3 */
      c = end;
      continue;
    }
    stop = is_stopping (w);
    if (since == 0)
      since = now_monotonic_ns ();
    reader = find_reader (w, run, c, &end);
    if (reader && !stop && wait_for_space (w, reader, e.num, since)) {
      set_stalled (&stalled, reader);
      continue;
    }
    snapshot_unref (reader);
    if (!stop)
      break_readers (w, run, c, end, &e);
  }
  set_stalled (&stalled, NULL);
  return !stop;
}

/* The run is in the target, and its cells are free; or they wait again. */
static void
end_run (struct writeback *w, const struct run *run, bool done)
{
  const uint32_t n = (uint32_t) (run->end - run->start);
  struct snapshot *snap = run->wi->snap, *unused = NULL;
  bool punched[RUN_MAX];
  uint64_t unwritten = 0;
  uint32_t i;

  {
    LOCK_FOR_SCOPE (&w->lock);
    for (i = n; i-- > 0;) {
      punched[i] = run->cells[i]->punched;
      if (!done) {
        cell_put_back (run->cells[i]);
        continue;
      }
      if (!run->written[i])
        unwritten += writeback_bytes (run->wi, run->start + i);
      cells_release (&w->cells, run->cells[i]);                     /* B4 */
    }
    run->wi->threads--;
    if (done)
      unused = writeback_less (run->wi, n);
  }
  /* What was punched while it was written may have come back. */
  for (i = 0; i < n; ++i)
    if (punched[i] && run->written[i])
      snapshot_punch (snap, run->start + i, run->start + i + 1);
  accounting_give_back (snap, unwritten);
  snapshot_unref (unused);
  snapshot_unref (snap);
}

void
drain_thread (void *opaque)
{
  struct writeback *w = opaque;
  const uint64_t size = max_u64 (PIECE_SIZE,
                                 w->cells.map->geometry.cluster_size);
  struct writeback_image *wi;
  unsigned char *buf = NULL;
  struct run run;

  LOCK_FOR_SCOPE (&w->lock);
  while (!w->stop) {
    if (buf == NULL)
      buf = malloc (size);
    wi = buf ? take_turn (w) : NULL;
    if (wi == NULL) {
      w->idle++;
      pthread_cond_wait (&w->work, &w->lock);
      w->idle--;
      continue;
    }
    take_run (w, wi, &run);                                         /* B1 */
    if (wi->queue.first && w->idle > 0) /* another, if it may */
      pthread_cond_signal (&w->work);
    pthread_mutex_unlock (&w->lock);
    end_run (w, &run, drain_run (w, &run, buf));
    pthread_mutex_lock (&w->lock);
  }
  free (buf);
}
