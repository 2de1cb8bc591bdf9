/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include <nbdkit-filter.h>

#include "clock.h"
#include "cut.h"
#include "engine.h"
#include "rounding.h"

/* How often a guest's write that waits for space looks for some. */
#define STALL_INTERVAL (50 * NS_PER_MS)

void
engine_init (struct engine *e)
{
  pthread_mutex_init (&e->control, NULL);
  atomic_init (&e->stalled, 0);
  gate_init (&e->gate);
  chain_head_init (&e->chain);
  copier_init (&e->copier);
  fill_init (&e->fill, &e->chain, &e->copier);
  writeback_init (&e->writeback, &e->chain);
  inflight_init (&e->inflight);
}

bool
engine_stop (struct engine *e)
{
  /* First, as the end of a backup may wait for the buffer. */
  writeback_stop (&e->writeback);
  return fill_stop (&e->fill, copier_patience_ns ()) &&
    copier_destroy (&e->copier) &&
    writeback_end (&e->writeback, copier_patience_ns ());
}

void
engine_destroy (struct engine *e)
{
  inflight_destroy (&e->inflight);
  chain_head_destroy (&e->chain);
  gate_destroy (&e->gate);
  pthread_mutex_destroy (&e->control);
}

void
engine_set_source (struct engine *e, const struct source *source)
{
  e->source = *source;
  e->copier.timed.source = *source;
  e->fill.source = *source;
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
  if (offset >= snap->size)
    return NULL;
  *start = offset / snap->cluster_size;
  *end = (min_u64 (offset + count, snap->size) + snap->cluster_size - 1) /
    snap->cluster_size;
  return chain;
}

/* Of the clusters of the job, those that still need a copy are not about to
 * change: set the dirty bits of the others.
 */
static void
set_changed (const struct copy_job *job, const struct bitmap *dirty)
{
  struct chain_need need;
  uint64_t start;

  for (start = job->start; start < job->end; start = need.end) {
    if (!chain_next_needed (job->chain, start, job->end, &need))
      need.start = need.end = job->end;
    bitmap_set (dirty, start, need.start);
  }
}

/* Preserve what is there; inside the gate.  Returns as copy_range. */
static int
preserve (struct engine *e, const struct source *source, uint64_t offset,
          uint64_t count, enum guest_op op, const void *data,
          uint64_t stalled_ns)
{
  struct copy_job job = {
    .source = source,
    .sparse = op != GUEST_WRITE,
    .data = data,
    .offset = offset,
    .count = count,
    .stalled_ns = stalled_ns,
  };
  const struct bitmap *dirty;
  int r;

  job.chain = newest_touched (e, offset, count, &job.start, &job.end);
  if (job.chain == NULL)
    return 0;
  dirty = &chain_newest (job.chain)->dirty;
  if (bitmap_all_set (dirty, job.start, job.end))
    return 0;
  r = copy_range (&e->copier, &job);
  if (r == 0)
    bitmap_set (dirty, job.start, job.end);
  else if (r == COPY_SAME) {
    set_changed (&job, dirty);
    r = 0;
  }
  return r;
}

/* A write that had waited goes on, or has failed.  The last one says so:
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
    snapshot_unstall (chain->snaps[i]);
  chain_put (chain);
}

int
engine_guest_begin (struct engine *e, const struct source *source,
                    uint64_t offset, uint64_t count, enum guest_op op,
                    const void *data, unsigned *ticket)
{
  uint64_t since = 0, stalled_ns = 0;
  int r;

  for (;;) {
    *ticket = gate_enter (&e->gate);
    r = preserve (e, source, offset, count, op, data, stalled_ns);
    if (r != 0)
      gate_leave (&e->gate, *ticket);
    if (r != COPY_STALL)
      break;
    /* Outside the gate, so that snapshots can be dropped to make room. */
    if (since == 0) {
      since = now_monotonic_ns ();
      atomic_fetch_add (&e->stalled, 1);
    }
    /* Nobody tells of what other programs free: look again and again. */
    if (nbdkit_nanosleep (0, STALL_INTERVAL) == -1) {
      r = ESHUTDOWN;            /* the server ends, or the guest is gone */
      break;
    }
    stalled_ns = now_monotonic_ns () - since;
  }
  if (since != 0)
    end_stall (e);

  /* Pairs with the fence in view.c: who reads from the source what this
   * change puts there also sees the done bits, and the broken state, that
   * were set (here, or seen set here) before it.
   */
  atomic_thread_fence (memory_order_release);
  return r;
}

void
engine_guest_end (struct engine *e, unsigned ticket)
{
  gate_leave (&e->gate, ticket);
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

int
engine_add_snapshot (struct engine *e, struct snapshot *snap,
                     uint64_t *held_ns, struct error *error)
{
  uint32_t reserved = CBW_SNAPSHOT_RESERVED;
  struct chain *chain = chain_make (e->chain.current, 0, snap);
  uint64_t start;
  int r = 0;

  if (chain == NULL)
    return error_set_errno (error, ENOMEM, "snapshot \"%s\"",
                            snap->entry->name);
  start = now_monotonic_ns ();
  gate_close (&e->gate);
  if (snapshot_state (snap) == CBW_SNAPSHOT_RESERVED)
    r = cut_check (e, snap, error);
  if (r == 0) {
    chain_set (&e->chain, chain);
    atomic_compare_exchange_strong (&snap->entry->state, &reserved,
                                    CBW_SNAPSHOT_LIVE);
  }
  gate_open (&e->gate);
  *held_ns = now_monotonic_ns () - start;
  if (r == -1)
    chain_put (chain);
  return r;
}

void
engine_lose_source (struct engine *e, uint64_t offset, const char *msg)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&e->chain);
  size_t i;

  for (i = 0; chain && i < chain->len; ++i)
    snapshot_break (chain->snaps[i], CBW_BROKEN_SOURCE, EINVAL, offset, msg);
}

int
engine_drop_snapshot (struct engine *e, struct snapshot *snap,
                      struct snapshot **gone, size_t *nr_gone)
{
  struct chain *old = e->chain.current, *chain;
  size_t i, first = 0;

  /* The oldest go: this one and those hidden already, up to the first
   * that is not.
   */
  while (first < old->len &&
         (old->snaps[first] == snap ||
          snapshot_state (old->snaps[first]) == CBW_SNAPSHOT_HIDDEN))
    first++;
  chain = chain_make (old, first, NULL);
  if (chain == NULL && first < old->len)
    return -1;
  for (i = 0; i < first; ++i) {
    gone[i] = old->snaps[i];
    snapshot_ref (gone[i]);
  }
  *nr_gone = first;

  /* Closed, so that no copy that this snapshot alone needed is under way
   * when others look which of its copies are of use.
   */
  gate_close (&e->gate);
  snapshot_hide (snap);
  chain_set (&e->chain, chain);
  gate_open (&e->gate);
  return 0;
}
