/* SPDX-License-Identifier: BSD-3-Clause */

/* The list of claims: which clusters are being copied, and by whom they are
 * waited for.  Everything here is under the copier's lock.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "below/log.h"
#include "copy/claims.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

/* Put the claim on the list; the lock is held, and no other overlaps. */
static void
add_claim (struct copier *c, struct copy_claim *mine)
{
  pthread_cond_init (&mine->released, NULL);
  mine->unchanged = NULL;
  mine->copying = false;
  mine->since_ns = now_monotonic_ns ();
  mine->number = c->nr_claims++;
  mine->next = c->claims;
  c->claims = mine;
  LOG_WATCH (claims, "clusters %" PRIu64 " to %" PRIu64 " for \"%s\"",
             mine->need.start, mine->need.end, mine->need.by->fixed.name);
}

/* Wait until "other" is gone, or smaller; no longer than until timeout_ns
 * (0: none) after "since".  Returns false if that is over.  The lock is
 * held.
 */
static bool
wait_for (struct copier *c, struct copy_claim *other, uint64_t since,
          uint64_t timeout_ns)
{
  const struct timespec until = cond_until (since + timeout_ns);

  if (timeout_ns == 0) {
    pthread_cond_wait (&other->released, &c->lock);
    return true;
  }
  return pthread_cond_clockwait (&other->released, &c->lock, CLOCK_MONOTONIC,
                                 &until) != ETIMEDOUT;
}

/* Not inlined: gcc 12 would see only that a local variable of the caller goes
 * on the list, not that release takes it off again.
 */
__attribute__ ((noinline)) enum claimed
claim_needed (struct copier *c, const struct copy_job *job, uint64_t start,
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
      if (job->nr_claims > 0)
        return CLAIM_OTHERS;
      LOG_WATCH (claims, "clusters %" PRIu64 " to %" PRIu64 " are claimed: a "
                 "guest waits", other->need.start, other->need.end);
      if (!wait_for (c, other, since, need->by->fixed.options.timeout_ns))
        return CLAIM_LATE;
      goto again;
    }
    if (other->need.start > need->start)
      need->end = min_u64 (need->end, other->need.start);
  }
  add_claim (c, mine);
  return CLAIM_MINE;
}

/* Not inlined, for the reason given at claim_needed. */
__attribute__ ((noinline)) bool
copy_claim_free (struct copier *c, struct snapshot *snap,
                 uint64_t start, uint64_t end, struct copy_claim *mine)
{
  struct chain_need *need = &mine->need;
  struct copy_claim *other;

  LOCK_FOR_SCOPE (&c->lock);
 again:
  need->by = snap;
  need->start = snapshot_next_unsettled (snap, start, end);
  if (need->start == end)
    return false;
  need->end = snapshot_next_settled (snap, need->start, end);
  for (other = c->claims; other; other = other->next) {
    if (other->need.start <= need->start && need->start < other->need.end) {
      start = min_u64 (other->need.end, end);
      goto again;
    }
    if (other->need.start > need->start)
      need->end = min_u64 (need->end, other->need.start);
  }
  add_claim (c, mine);
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

/* Does anybody copy, and not just write what is there? */
static bool
is_copy (const struct copy_claim *claim)
{
  return claim->unchanged == NULL || claim->copying;
}

bool
copy_describe_oldest (struct copier *c, char *buf, size_t len)
{
  const struct copy_claim *claim, *oldest = NULL;

  LOCK_FOR_SCOPE (&c->lock);
  for (claim = c->claims; claim; claim = claim->next)
    if (is_copy (claim) && (oldest == NULL ||
                            claim->since_ns < oldest->since_ns))
      oldest = claim;
  if (oldest == NULL)
    return false;
  snprintf (buf, len, "the copy of old data at offset %" PRIu64 " to %s, for "
            "snapshot \"%s\", which has taken %.1f s so far",
            oldest->need.start * oldest->need.by->view.cluster_size,
            oldest->need.by->fixed.target, oldest->need.by->fixed.name,
            (double) (now_monotonic_ns () - oldest->since_ns) / NS_PER_SEC);
  return true;
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
    if (other->number < now && is_copy (other) &&
        other->need.start < end && start < other->need.end) {
      pthread_cond_wait (&other->released, &c->lock);
      goto again;
    }
}
