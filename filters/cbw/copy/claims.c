/* SPDX-License-Identifier: BSD-3-Clause */

/* The list of claims: which clusters are being copied, and by whom they are
 * waited for.  Guests' changes and backups claim here; everything is under the
 * lock of the list.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "below/log.h"
#include "copy/claims.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

void
claims_init (struct claims *claims)
{
  *claims = (struct claims) { .first = NULL };
  pthread_mutex_init (&claims->lock, NULL);
}

void
claims_destroy (struct claims *claims)
{
  assert (claims->first == NULL);
  pthread_mutex_destroy (&claims->lock);
}

/* Put the claim on the list; the lock is held, and no other overlaps. */
static void
add_claim (struct claims *claims, struct claim *mine)
{
  pthread_cond_init (&mine->released, NULL);
  mine->held = true;
  mine->unchanged = NULL;
  mine->copying = false;
  mine->since_ns = now_monotonic_ns ();
  mine->number = claims->nr++;
  mine->next = claims->first;
  claims->first = mine;
  LOG_WATCH (claims, "clusters %" PRIu64 " to %" PRIu64 " for \"%s\"",
             mine->need.start, mine->need.end, mine->need.by->fixed.name);
}

/* Wait until "other" is gone, or smaller; no longer than until timeout_ns
 * (0: none) after "since".  Returns false if that is over.  The lock is
 * held.
 */
static bool
wait_for (struct claims *claims, struct claim *other, uint64_t since,
          uint64_t timeout_ns)
{
  const struct timespec until = cond_until (since + timeout_ns);

  LOG_WATCH (claims, "clusters %" PRIu64 " to %" PRIu64 " are claimed: a "
             "guest waits", other->need.start, other->need.end);
  if (timeout_ns == 0) {
    pthread_cond_wait (&other->released, &claims->lock);
    return true;
  }
  return pthread_cond_clockwait (&other->released, &claims->lock,
                                 CLOCK_MONOTONIC, &until) != ETIMEDOUT;
}

/* The claim on the first cluster of the run, or NULL; then the run ends before
 * the next claim begins.  The lock is held.
 */
static struct claim *
other_claim (const struct claims *claims, struct chain_need *need)
{
  struct claim *other;

  for (other = claims->first; other; other = other->next) {
    if (other->need.start <= need->start && need->start < other->need.end)
      return other;
    if (other->need.start > need->start)
      need->end = min_u64 (need->end, other->need.start);
  }
  return NULL;
}

/* Not inlined: gcc 12 would see only that a local variable of the caller goes
 * on the list, not that release takes it off again.
 */
__attribute__ ((noinline)) enum claimed
claim_first (struct claims *claims, const struct claim_request *request,
             struct claim *mine)
{
  struct chain_need *need = &mine->need;
  uint64_t start = request->start;
  struct claim *other;

  LOCK_FOR_SCOPE (&claims->lock);
  while (request->find (request->of, start, request->end, need)) {
    assert (start <= need->start && need->start < need->end);
    if (need->end - need->start > request->max)
      need->end = need->start + request->max;
    other = other_claim (claims, need);
    if (other == NULL) {
      add_claim (claims, mine);
      return CLAIM_MINE;
    }
    switch (request->others) {
    case CLAIM_WAIT:
      if (!wait_for (claims, other, request->since,
                     need->by->fixed.options.timeout_ns))
        return CLAIM_LATE;
      break;
    case CLAIM_REFUSE:
      return CLAIM_OTHERS;
    case CLAIM_SKIP:
      start = min_u64 (other->need.end, request->end);
      break;
    }
  }
  return CLAIM_NONE;
}

void
claim_shrink (struct claims *claims, struct claim *mine, uint64_t end)
{
  LOCK_FOR_SCOPE (&claims->lock);
  assert (mine->held && mine->need.start < end);
  if (end < mine->need.end) {
    mine->need.end = end;
    pthread_cond_broadcast (&mine->released);
  }
}

void
claim_release (struct claims *claims, struct claim *mine)
{
  struct claim **p;

  assert (mine->held);
  {
    LOCK_FOR_SCOPE (&claims->lock);
    for (p = &claims->first; *p != mine; p = &(*p)->next)
      ;
    *p = mine->next;
    mine->held = false;
    pthread_cond_broadcast (&mine->released);
  }
  pthread_cond_destroy (&mine->released);
}

/* Does anybody copy, and not just write what is there? */
static bool
is_copy (const struct claim *claim)
{
  return claim->unchanged == NULL || claim->copying;
}

bool
claims_describe_oldest (struct claims *claims, char *buf, size_t len)
{
  const struct claim *claim, *oldest = NULL;

  LOCK_FOR_SCOPE (&claims->lock);
  for (claim = claims->first; claim; claim = claim->next)
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
claims_wait (struct claims *claims, uint64_t start, uint64_t end)
{
  struct claim *other;
  uint64_t now;

  LOCK_FOR_SCOPE (&claims->lock);
  now = claims->nr;
 again:
  for (other = claims->first; other; other = other->next)
    if (other->number < now && is_copy (other) &&
        other->need.start < end && start < other->need.end) {
      pthread_cond_wait (&other->released, &claims->lock);
      goto again;
    }
}
