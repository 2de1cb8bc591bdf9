/* SPDX-License-Identifier: BSD-3-Clause */

/* What a guest's change passes through.  How the chain changes under it is in
 * engine-cut.c.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "below/log.h"
#include "below/patience.h"
#include "guest/engine.h"
#include "snapshot/policy.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

/* How often a guest's write that waits for space looks for some. */
#define STALL_INTERVAL (50 * NS_PER_MS)

/* For the closer. */
static void
ended (void *opaque, const struct cbw_snapshot *entry)
{
  struct engine *e = opaque;

  table_ended (&e->table, entry);
}

/* Runs of clusters that are looked up at a time. */
#define TIDY_RUNS 256

/* The chain is not kept while the target is waited for: that would keep all
 * that is dropped meanwhile.
 */
static void
tidy_target (void *opaque, struct snapshot *snap)
{
  struct chain_run runs[TIDY_RUNS];
  struct engine *e = opaque;
  struct chain *chain;
  uint64_t cursor = 0;
  size_t nr, i;
  int j;

  while (cursor < snapshot_clusters (snap)) {
    chain = chain_get (&e->chain);
    j = chain_find (chain, snap->view.id);
    nr = j < 0 ? 0 : chain_unneeded (chain, (size_t) j, &cursor, runs,
                                     TIDY_RUNS);
    chain_put (chain);
    if (j < 0)
      return;
    for (i = 0; i < nr; ++i)
      snapshot_punch (snap, runs[i].start, runs[i].end);
  }
}

void
engine_init (struct engine *e)
{
  pthread_mutex_init (&e->control, NULL);
  table_init (&e->table);
  closer_init (&e->closer, ended, tidy_target, e);
  atomic_init (&e->stalled, 0);
  gate_init (&e->gate);
  hold_init (&e->hold, &e->gate, &e->copier);
  chain_head_init (&e->chain);
  generation_init (&e->generation);
  copier_init (&e->copier);
  fill_init (&e->fill, &e->chain, &e->copier);
  writeback_init (&e->writeback, &e->chain);
  e->commands = (struct command_policy) { .allowed = false };
  inflight_init (&e->inflight);
  points_init (&e->points);
  hot_init (&e->hot);
}

void
engine_stop (struct engine *e)
{
  hold_stop (&e->hold);
  /* Before the fill, as the end of a backup may wait for the buffer. */
  writeback_stop (&e->writeback);
  fill_stop (&e->fill);
  copier_stop (&e->copier);
  closer_stop (&e->closer);
}

bool
engine_join (struct engine *e, uint64_t until)
{
  bool ended = fill_join (&e->fill, until);

  ended = copier_join (&e->copier, until) && ended;
  ended = closer_join (&e->closer, until) && ended;
  return writeback_join (&e->writeback, until) && ended;
}

/* Leave the threads of the group that have not ended, and say so. */
static void
leave (struct thread_group *g, const char *what)
{
  const unsigned n = thread_group_leave (g);

  if (n > 0)
    log_error ("cbw: %u %s; leaving them", n, what);
}

void
engine_leave (struct engine *e)
{
  leave (&e->fill.threads, "pieces of a backup are stuck");
  leave (&e->copier.deadline.workers, "copies are stuck");
  leave (&e->closer.crew.threads, "targets cannot be closed");
  leave (&e->writeback.threads, "writes of old data are stuck");
}

void
engine_free (struct engine *e)
{
  fill_free (&e->fill);
  copier_free (&e->copier);
  writeback_free (&e->writeback);
  inflight_destroy (&e->inflight);
  hot_destroy (&e->hot);
  points_destroy (&e->points);
  chain_head_destroy (&e->chain);
  closer_free (&e->closer);
  table_destroy (&e->table);
  hold_destroy (&e->hold);
  gate_destroy (&e->gate);
  generation_destroy (&e->generation);
  pthread_mutex_destroy (&e->control);
}

void
engine_set_source (struct engine *e, const struct source *source)
{
  e->source = *source;
  e->copier.deadline.source = &e->source.image;
  e->fill.source = &e->source.image;
}

/* The clusters of the newest snapshot that a change touches; returns the
 * chain, or NULL if there is none or the change is past the snapshot.
 */
static const struct chain *
newest_touched (const struct engine *e, uint64_t offset, uint64_t count,
                uint64_t *start, uint64_t *end)
{
  const struct chain *chain = e->chain.current;
  const struct snapshot *snap;

  if (chain == NULL)
    return NULL;
  snap = chain_newest (chain);
  if (offset >= snap->view.size)
    return NULL;
  *start = offset / snap->view.cluster_size;
  *end = (min_u64 (offset + count, snap->view.size) +
          snap->view.cluster_size - 1) / snap->view.cluster_size;
  return chain;
}

/* Of the clusters of the job, those that still need a copy are not about to
 * change: set the settled bits of the others.
 */
static void
set_changed (const struct copy_job *job, const struct bitmap *settled)
{
  struct chain_need need;
  uint64_t start;

  for (start = job->start; start < job->end; start = need.end) {
    if (!chain_next_needed (job->chain, start, job->end, &need))
      need.start = need.end = job->end;
    bitmap_set (settled, start, need.start);
  }
}

/* Preserve what is there; inside the gate.  Returns as copy_range. */
static enum copy_result
preserve (struct engine *e, struct copy_job *job, int *err)
{
  const struct bitmap *settled;
  enum copy_result result;

  job->nr_claims = 0;
  job->chain = newest_touched (e, job->offset, job->count, &job->start,
                               &job->end);
  if (job->chain == NULL)
    return COPY_DONE;
  settled = &chain_newest (job->chain)->settled;
  if (bitmap_all_set (settled, job->start, job->end))
    return COPY_DONE;
  result = copy_range (&e->copier, job, err);
  if (result == COPY_DONE)
    bitmap_set (settled, job->start, job->end);
  else if (result == COPY_UNCHANGED)
    set_changed (job, settled);
  return result;
}

/* A write that had waited continues, or has failed.  The last one says so:
 * if another began to wait meanwhile, it says it again soon.
 */
static void
end_stall (struct engine *e)
{
  struct chain *chain;
  size_t i;

  if (atomic_fetch_sub (&e->stalled, 1) > 1)
    return;
  chain = chain_get (&e->chain);
  for (i = 0; chain && i < chain->len; ++i)
    policy_unstall (chain->snaps[i]);
  chain_put (chain);
}

int
engine_guest_begin (struct engine *e, struct image *source,
                    uint64_t offset, uint64_t count, enum guest_op op,
                    const void *data, struct guest_change *change)
{
  struct copy_job *job = &change->job;
  enum copy_result result;
  uint64_t since = 0;
  int err = 0;

  job->source = source;
  job->sparse = op != GUEST_WRITE;
  job->data = data;
  job->offset = offset;
  job->count = count;
  job->stalled_ns = 0;
  for (;;) {
    change->stripe = gate_enter (&e->gate);
    result = preserve (e, job, &err);
    if (result == COPY_DONE || result == COPY_UNCHANGED)
      break;
    gate_leave (&e->gate, change->stripe);
    if (result == COPY_FAILED)
      break;
    /* Outside the gate, so that snapshots can be dropped to make room. */
    if (since == 0) {
      since = now_monotonic_ns ();
      atomic_fetch_add (&e->stalled, 1);
    }
    /* Nobody tells of what other programs free: look again and again. */
    if (!patience_sleep (STALL_INTERVAL)) {
      result = COPY_FAILED;
      err = ESHUTDOWN;          /* the server ends, or the guest is gone */
      break;
    }
    job->stalled_ns = now_monotonic_ns () - since;
  }
  if (since != 0)
    end_stall (e);
  if (result != COPY_FAILED) {
    points_mark (&e->points, offset, count);
    hot_touch (&e->hot, offset, count);
  }

  /* W4: pairs with the fence in serve-read.c (R2).  A reader that gets from the
   * source what this change puts there also sees the done bits, the broken
   * state, and the claims of what is unchanged, that were set (here, or seen
   * set here) before it.
   */
  atomic_thread_fence (memory_order_release);
  return result == COPY_FAILED ? err : 0;
}

void
engine_guest_end (struct engine *e, struct guest_change *change, bool failed)
{
  if (change->job.nr_claims > 0)
    copy_end (&e->copier, &change->job, failed);
  gate_leave (&e->gate, change->stripe);
}

bool
engine_guest_would_copy (struct engine *e, uint64_t offset, uint64_t count)
{
  const unsigned ticket = gate_enter (&e->gate);
  const struct chain *chain;
  struct chain_need need;
  uint64_t start, end;
  bool r;

  chain = newest_touched (e, offset, count, &start, &end);
  r = chain && chain_next_needed (chain, start, end, &need);
  gate_leave (&e->gate, ticket);
  return r;
}
