/* SPDX-License-Identifier: BSD-3-Clause */

/* What a guest's change does with the clusters that it claims. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "copy/claims.h"
#include "copy/copy.h"
#include "copy/unchanged.h"
#include "snapshot/policy.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* A hole in the source is claimed by so much at a time if it must be
 * written to the target.
 */
#define HOLE_SIZE (64 * 1024 * 1024)

void
copier_init (struct copier *c)
{
  claims_init (&c->claims);
  atomic_init (&c->guests, 0);
  atomic_init (&c->unchanged, 0);
  c->unchanged_shared = NULL;
  transfer_buffers_init (&c->buffers);
  deadline_init (&c->deadline, &c->buffers);
}

void
copier_attach (struct copier *c, _Atomic (uint64_t) *unchanged)
{
  c->unchanged_shared = unchanged;
}

void
copier_stop (struct copier *c)
{
  deadline_stop (&c->deadline);
}

bool
copier_join (struct copier *c, uint64_t until)
{
  return deadline_join (&c->deadline, until);
}

void
copier_free (struct copier *c)
{
  deadline_free (&c->deadline);
  transfer_buffers_destroy (&c->buffers);
  claims_destroy (&c->claims);
}

/* Does the claim begin with a hole in the source?  Then it is all that the
 * claim covers afterwards, else that is a piece at most.
 */
static bool
find_hole (struct copier *c, const struct copy_job *job,
           struct claim *mine)
{
  const struct snapshot *snap = mine->need.by;
  const uint64_t cs = snap->view.cluster_size, offset = mine->need.start * cs;
  const uint64_t len = snapshot_bytes (snap, mine->need.start,
                                       mine->need.end);
  uint64_t next, zeroes;
  struct error e;
  bool data;

  if (job->source->ops->extent (job->source, offset, offset + len, &next,
                                &data, &e) == -1 || data)
    next = offset;
  zeroes = next - offset;
  if (zeroes < min_u64 (cs, len)) {
    claim_shrink (&c->claims, mine, mine->need.start + piece_clusters (snap));
    return false;
  }
  if (zeroes < len)
    claim_shrink (&c->claims, mine, mine->need.start + zeroes / cs);
  /* Where nothing is to be written, it takes no time. */
  if (!snap->view.store->reads_zero)
    claim_shrink (&c->claims, mine,
                  mine->need.start + max_u64 (HOLE_SIZE / cs, 1));
  return true;
}

/* Between read and write: does the guest change what is there? */
static bool
is_changed (void *of, const struct transfer *t, unsigned char *old)
{
  return !unchanged_is (of, t, old);
}

/* The time limit is one for the whole of the guest's change, which began
 * to wait at "since": however many pieces it has, and whomever else's
 * copies it waited for.
 */
static enum transfer_result
copy_claimed (struct copier *c, struct copy_job *job, const struct claim *mine,
              bool hole, uint64_t since, struct error *e)
{
  struct snapshot *snap = mine->need.by;
  const uint64_t timeout_ns = snap->fixed.options.timeout_ns;
  struct transfer t = {
    .snap = snap, .start = mine->need.start, .end = mine->need.end,
    .from = job->source, .to = snap->view.store,
    .hole = hole, .decide = is_changed, .of = job,
  };
  enum transfer_result r;

  if (timeout_ns != 0 && !(hole && snap->view.store->reads_zero))
    r = deadline_transfer (&c->deadline, &t, since, timeout_ns, e);
  else
    r = transfer_run (&c->buffers, &t, e);                          /* W1 W2 */
  if (r == TRANSFER_DONE)
    transfer_set_done (&t, mine);                                   /* W3 */
  return r;
}

/* The copy that "mine" stands for failed.  Broken first, then released: a
 * thread that waited must not think that the cluster is still to be copied,
 * nor that it was.  Older snapshots may need it too: they have their own try.
 * Returns as copy_range.
 */
static enum copy_result
copy_failed (const struct copy_job *job, const struct claim *mine,
             const struct error *e, int *err)
{
  struct snapshot *by = mine->need.by;

  *err = e->num;
  if (e->num == ESHUTDOWN)      /* the server is stopping: so it fails too */
    return COPY_FAILED;
  if (policy_stalls (by, e->num, job->stalled_ns)) {
    policy_stall (by, job->stalled_ns);
    return COPY_STALL;
  }
  *err = policy_copy_failed (by, e->num, mine->need.start *
                             by->view.cluster_size, e->msg);        /* W3' */
  return *err == 0 ? COPY_DONE : COPY_FAILED;
}

/* Others' claims are to be waited for, or there are too many to be kept: begin
 * anew, and copy what is unchanged, too.
 */
static void
stop_comparing (struct copier *c, struct copy_job *job, uint64_t *start)
{
  unchanged_release (c, job);
  job->compare = false;
  *start = job->start;
}

/* Find what a guest's change needs copied, for claim_first. */
static bool
find_needed (const void *chain, uint64_t start, uint64_t end,
             struct chain_need *need)
{
  return chain_next_needed (chain, start, end, need);
}

/* Copy what is claimed, and release it; or keep the claim, if it is unchanged.
 * *start is moved to where others may be.  Returns as copy_range.
 */
static enum copy_result
copy_mine (struct copier *c, struct copy_job *job, struct claim *mine,
           uint64_t *start, uint64_t since, int *err)
{
  const bool hole = job->sparse && find_hole (c, job, mine);
  enum copy_result result = COPY_DONE;
  enum transfer_result r;
  struct error e;

  r = copy_claimed (c, job, mine, hole, since, &e);
  LOG_WATCH (copy, "clusters %" PRIu64 " to %" PRIu64 ", for \"%s\": %s",
             mine->need.start, mine->need.end, mine->need.by->fixed.name,
             r == TRANSFER_LEFT_OUT ? "the guest does not change them" :
             r != TRANSFER_DONE ? e.msg : hole ? "a hole" : "copied");
  if (r == TRANSFER_LEFT_OUT) {
    *start = mine->need.end;
    unchanged_keep (c, job);                                        /* U1 */
    if (job->nr_claims == COPY_UNCHANGED_MAX)
      stop_comparing (c, job, start);
    return COPY_DONE;
  }
  if (r != TRANSFER_DONE)
    result = copy_failed (job, mine, &e, err);
  claim_release (&c->claims, mine);
  return result;
}

/* One round of copy_range, from *start on: one claim, and what comes of it.
 * *more tells if there may be others.
 */
static enum copy_result
copy_next (struct copier *c, struct copy_job *job, uint64_t *start,
           uint64_t since, bool *more, int *err)
{
  const struct claim_request request = {
    .find = find_needed, .of = job->chain, .start = *start, .end = job->end,
    /* A hole may be as long as it likes: it takes no time. */
    .max = job->sparse ? UINT64_MAX :
      piece_clusters (chain_newest (job->chain)),
    .others = job->nr_claims > 0 ? CLAIM_REFUSE : CLAIM_WAIT, .since = since,
  };
  struct claim *mine;
  struct error e;

  assert (job->nr_claims < COPY_UNCHANGED_MAX);
  mine = &job->claims[job->nr_claims];
  switch (claim_first (&c->claims, &request, mine)) {
  case CLAIM_MINE:
    *start = mine->need.start;
    return copy_mine (c, job, mine, start, since, err);
  case CLAIM_NONE:
    *more = false;
    break;
  case CLAIM_LATE:
    error_set (&e, ETIMEDOUT, "another copy of the same clusters took too "
               "long");
    return copy_failed (job, mine, &e, err);
  case CLAIM_OTHERS:
    stop_comparing (c, job, start);
    break;
  }
  return COPY_DONE;
}

/* Has a live snapshot a time limit?  A copy after the guest's write could not
 * keep it.
 */
static bool
has_time_limit (const struct chain *chain)
{
  size_t i;

  for (i = 0; i < chain->len; ++i)
    if (chain->snaps[i]->fixed.options.timeout_ns != 0 &&
        snapshot_state (chain->snaps[i]) == CBW_SNAPSHOT_LIVE)
      return true;
  return false;
}

enum copy_result
copy_range (struct copier *c, struct copy_job *job, int *err)
{
  const uint64_t since = now_monotonic_ns ();
  enum copy_result result = COPY_DONE;
  uint64_t start = job->start;
  bool more = true;

  job->nr_claims = 0;
  job->compare = job->data != NULL && !has_time_limit (job->chain);
  atomic_fetch_add_explicit (&c->guests, 1, memory_order_relaxed);
  while (more && result == COPY_DONE)
    result = copy_next (c, job, &start, since, &more, err);
  atomic_fetch_sub_explicit (&c->guests, 1, memory_order_relaxed);
  if (result != COPY_DONE)
    unchanged_release (c, job);
  return result == COPY_DONE && job->nr_claims > 0 ? COPY_UNCHANGED : result;
}
