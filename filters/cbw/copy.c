/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "clock.h"
#include "copy.h"
#include "rounding.h"
#include "threads.h"

/* How long the server waits for what is stuck when it stops, in seconds, all
 * in all: nbdkit -D cbw.stuck_wait=SECS.
 */
NBDKIT_DLL_PUBLIC int cbw_debug_stuck_wait = 25;

/* A hole in the source is claimed by so much at a time if it must be
 * written to the target.
 */
#define HOLE_SIZE (64 * 1024 * 1024)

void
copier_init (struct copier *c)
{
  pthread_mutex_init (&c->lock, NULL);
  c->claims = NULL;
  c->nr_claims = 0;
  atomic_init (&c->guests, 0);
  piece_pool_init (&c->buffers);
  timed_init (&c->timed, &c->buffers);
}

uint64_t
copier_patience_ns (void)
{
  return (uint64_t) cbw_debug_stuck_wait * NS_PER_SEC;
}

bool
copier_stop (struct copier *c, uint64_t timeout_ns)
{
  return timed_stop (&c->timed, timeout_ns);
}

void
copier_destroy (struct copier *c)
{
  timed_destroy (&c->timed);
  piece_pool_destroy (&c->buffers);
  pthread_mutex_destroy (&c->lock);
}

/* Put the claim on the list; the lock is held, and no other overlaps. */
static void
add (struct copier *c, struct copy_claim *mine)
{
  pthread_cond_init (&mine->released, NULL);
  mine->number = c->nr_claims++;
  mine->next = c->claims;
  c->claims = mine;
}

/* Wait until "other" is gone, or smaller; no longer than until timeout_ns
 * (0: none) after "since".  Returns false if that is over.  The lock is
 * held.
 */
static bool
wait_for (struct copier *c, struct copy_claim *other, uint64_t since,
          uint64_t timeout_ns)
{
  const struct timespec until = deadline (since + timeout_ns);

  if (timeout_ns == 0) {
    pthread_cond_wait (&other->released, &c->lock);
    return true;
  }
  return pthread_cond_clockwait (&other->released, &c->lock, CLOCK_MONOTONIC,
                                 &until) != ETIMEDOUT;
}

enum claimed { CLAIM_NONE, CLAIM_MINE, CLAIM_LATE };

/* Claim the first run of [start, job->end) that needs copying, or the
 * first "max" clusters of it.  CLAIM_NONE if none does; CLAIM_LATE, and
 * need says of whom, if another has it claimed for longer than the limit of
 * who needs it, from "since".  Not inlined: gcc 12 would see only that a
 * local variable of the caller goes on the list, not that release takes it
 * off again.
 */
__attribute__ ((noinline)) static enum claimed
claim (struct copier *c, const struct copy_job *job, uint64_t start,
       uint64_t max, uint64_t since, struct copy_claim *mine)
{
  struct chain_need *need = &mine->need;
  struct copy_claim *other;

  LOCK_FOR_SCOPE (&c->lock);
 again:
  if (!chain_next_needed (job->chain, start, job->end, need))
    return CLAIM_NONE;
  if (need->end - need->start > max)
    need->end = need->start + max;
  for (other = c->claims; other; other = other->next) {
    if (other->need.start <= need->start && need->start < other->need.end) {
      if (!wait_for (c, other, since, need->by->entry->options.timeout_ns))
        return CLAIM_LATE;
      goto again;
    }
    if (other->need.start > need->start)
      need->end = min_u64 (need->end, other->need.start);
  }
  add (c, mine);
  return CLAIM_MINE;
}

/* Not inlined: as above. */
__attribute__ ((noinline)) bool
copy_claim_free (struct copier *c, const struct bitmap *settled,
                 uint64_t start, uint64_t end, struct copy_claim *mine)
{
  struct chain_need *need = &mine->need;
  struct copy_claim *other;

  LOCK_FOR_SCOPE (&c->lock);
 again:
  need->start = bitmap_next_clear (settled, start, end);
  if (need->start == end)
    return false;
  need->end = bitmap_next_set (settled, need->start, end);
  for (other = c->claims; other; other = other->next) {
    if (other->need.start <= need->start && need->start < other->need.end) {
      start = min_u64 (other->need.end, end);
      goto again;
    }
    if (other->need.start > need->start)
      need->end = min_u64 (need->end, other->need.start);
  }
  need->by = NULL;
  add (c, mine);
  return true;
}

void
copy_claim_shrink (struct copier *c, struct copy_claim *mine, uint64_t end)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (end < mine->need.end) {
    mine->need.end = end;
    pthread_cond_broadcast (&mine->released);
  }
}

void
copy_claim_release (struct copier *c, struct copy_claim *mine)
{
  struct copy_claim **p;

  {
    LOCK_FOR_SCOPE (&c->lock);
    for (p = &c->claims; *p != mine; p = &(*p)->next)
      ;
    *p = mine->next;
    pthread_cond_broadcast (&mine->released);
  }
  pthread_cond_destroy (&mine->released);
}

/* Does the claim begin with a hole in the source?  Then it is all that the
 * claim covers afterwards, else that is a piece at most.
 */
static bool
find_hole (struct copier *c, const struct copy_job *job,
           struct copy_claim *mine)
{
  const struct snapshot *snap = chain_newest (job->chain);
  const uint64_t cs = snap->cluster_size, offset = mine->need.start * cs;
  const uint64_t len = snapshot_bytes (snap, mine->need.start,
                                       mine->need.end);
  const uint64_t zeroes = source_zeroes (job->source, len, offset);

  if (zeroes < min_u64 (cs, len)) {
    copy_claim_shrink (c, mine, mine->need.start + piece_clusters (snap));
    return false;
  }
  if (zeroes < len)
    copy_claim_shrink (c, mine, mine->need.start + zeroes / cs);
  /* Where nothing is to be written, it takes no time. */
  if (!snap->target->reads_zero)
    copy_claim_shrink (c, mine, mine->need.start + max_u64 (HOLE_SIZE / cs, 1));
  return true;
}

/* Is the old data just what the guest is about to write there?  It is not
 * looked at where the guest writes less than half of it: all of it would be
 * read each time that the guest does so.
 */
static bool
is_same (const struct copy_job *job, const struct snapshot *snap,
         const unsigned char *old, uint64_t start, uint64_t end)
{
  const uint64_t offset = start * snap->cluster_size;
  const uint64_t len = snapshot_bytes (snap, start, end);
  const uint64_t from = max_u64 (offset, job->offset);
  const uint64_t to = min_u64 (offset + len, job->offset + job->count);

  return job->data && to - from >= len / 2 &&
    memcmp (old + (from - offset), job->data + (from - job->offset),
            to - from) == 0;
}

/* 0, -1 with the error set, or COPY_SAME. */
static int
copy_piece (struct copier *c, const struct copy_job *job, uint64_t start,
            uint64_t end, uint64_t *held, struct error *e)
{
  const struct snapshot *snap = chain_newest (job->chain);
  void *old = piece_read (&c->buffers, snap, job->source, start, end, e);
  int r;

  if (old == NULL)
    return -1;
  r = is_same (job, snap, old, start, end) ? COPY_SAME :
    piece_write (snap, snap->target, old, start, end, held, e);
  piece_put (&c->buffers, old);
  return r;
}

/* The time limit is one for the whole of the guest's change, which began
 * to wait at "since": however many pieces it has, and whomever else's
 * copies it waited for.
 */
static int
copy_claimed (struct copier *c, const struct copy_job *job,
              const struct copy_claim *mine, bool hole, uint64_t since,
              struct error *e)
{
  struct snapshot *snap = chain_newest (job->chain);
  const uint64_t timeout_ns = mine->need.by->entry->options.timeout_ns;
  const uint64_t start = mine->need.start, end = mine->need.end;
  uint64_t held = 0;
  int r;

  if (timeout_ns != 0 && !(hole && snap->target->reads_zero))
    r = timed_copy (&c->timed, snap, start, end, hole, since, timeout_ns,
                    &held, e);
  else if (hole)
    r = piece_zero (snap, start, end, e);
  else
    r = copy_piece (c, job, start, end, &held, e);
  if (r == 0)
    piece_done (snap, start, end, held);
  return r;
}

/* A copy failed: is the guest to wait for space? */
static bool
stalls (const struct copy_job *job, const struct chain_need *need, int num)
{
  return (num == ENOSPC || num == EDQUOT) &&
    job->stalled_ns < need->by->entry->options.stall_ns;
}

/* The copy that "mine" stands for failed.  Broken first, then released:
 * whoever waited must not think that the cluster is still to be copied, nor
 * that it was.  Older snapshots may need it too: they have their own try.
 * Returns as copy_range.
 */
static int
copy_failed (const struct copy_job *job, const struct copy_claim *mine,
             const struct error *e)
{
  const struct snapshot *snap = chain_newest (job->chain);

  if (e->num == ESHUTDOWN)      /* the server is stopping: so it fails too */
    return ESHUTDOWN;
  if (stalls (job, &mine->need, e->num)) {
    snapshot_stall (mine->need.by, job->stalled_ns);
    return COPY_STALL;
  }
  return snapshot_copy_failed (mine->need.by, e->num,
                               mine->need.start * snap->cluster_size, e->msg);
}

int
copy_range (struct copier *c, const struct copy_job *job)
{
  const struct snapshot *snap = chain_newest (job->chain);
  /* A hole may be as long as it likes: it takes no time. */
  const uint64_t max = job->sparse ? UINT64_MAX : piece_clusters (snap);
  const uint64_t since = now_monotonic_ns ();
  uint64_t start = job->start;
  struct copy_claim mine;
  enum claimed claimed;
  struct error e;
  bool hole, same = false;
  int r = 0;

  atomic_fetch_add_explicit (&c->guests, 1, memory_order_relaxed);
  while (r == 0 &&
         (claimed = claim (c, job, start, max, since, &mine)) != CLAIM_NONE) {
    start = mine.need.start;
    if (claimed == CLAIM_LATE) {
      error_set (&e, ETIMEDOUT, "another copy of the same clusters took too "
                 "long");
      r = copy_failed (job, &mine, &e);
      continue;
    }
    hole = job->sparse && snap->target && find_hole (c, job, &mine);
    r = copy_claimed (c, job, &mine, hole, since, &e);
    if (r == -1)
      r = copy_failed (job, &mine, &e);
    else if (r == COPY_SAME) {
      same = true;
      start = mine.need.end;
      r = 0;
    }
    copy_claim_release (c, &mine);
  }
  atomic_fetch_sub_explicit (&c->guests, 1, memory_order_relaxed);
  return r == 0 && same ? COPY_SAME : r;
}

void
copy_wait (struct copier *c, uint64_t start, uint64_t end)
{
  struct copy_claim *other;
  uint64_t now;

  LOCK_FOR_SCOPE (&c->lock);
  now = c->nr_claims;
 again:
  for (other = c->claims; other; other = other->next)
    if (other->number < now &&
        other->need.start < end && start < other->need.end) {
      pthread_cond_wait (&other->released, &c->lock);
      goto again;
    }
}
