/* SPDX-License-Identifier: BSD-3-Clause */

/* What a guest's change does with the clusters that it claims. */

#include <config.h>

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
  pthread_mutex_init (&c->lock, NULL);
  c->claims = NULL;
  c->nr_claims = 0;
  atomic_init (&c->guests, 0);
  atomic_init (&c->unchanged, 0);
  piece_pool_init (&c->buffers);
  deadline_init (&c->deadline, &c->buffers);
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
  piece_pool_destroy (&c->buffers);
  pthread_mutex_destroy (&c->lock);
}

/* Does the claim begin with a hole in the source?  Then it is all that the
 * claim covers afterwards, else that is a piece at most.
 */
static bool
find_hole (struct copier *c, const struct copy_job *job,
           struct copy_claim *mine)
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
    copy_claim_shrink (c, mine, mine->need.start + piece_clusters (snap));
    return false;
  }
  if (zeroes < len)
    copy_claim_shrink (c, mine, mine->need.start + zeroes / cs);
  /* Where nothing is to be written, it takes no time. */
  if (!snap->view.store->reads_zero)
    copy_claim_shrink (c, mine, mine->need.start + max_u64 (HOLE_SIZE / cs, 1));
  return true;
}

/* 0, or -1 with the error set; or *unchanged, and nothing was written. */
static int
copy_piece (struct copier *c, const struct copy_job *job,
            struct snapshot *snap, uint64_t start, uint64_t end,
            bool *unchanged, uint64_t *held, struct error *e)
{
  void *old = piece_read (&c->buffers, snap, job->source, start, end, e);
  int r = 0;

  if (old == NULL)
    return -1;
  *unchanged = unchanged_is (job, snap, old, start, end);
  if (!*unchanged)
    r = piece_write (snap, snap->view.store, old, start, end, held, e);
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
              bool *unchanged, struct error *e)
{
  struct snapshot *snap = mine->need.by;
  const uint64_t timeout_ns = snap->fixed.options.timeout_ns;
  const uint64_t start = mine->need.start, end = mine->need.end;
  uint64_t held = 0;
  int r;

  if (timeout_ns != 0 && !(hole && snap->view.store->reads_zero))
    r = deadline_copy (&c->deadline, snap, start, end, hole, since, timeout_ns,
                       &held, e);
  else if (hole)
    r = piece_zero (snap, start, end, e);
  else
    r = copy_piece (c, job, snap, start, end, unchanged, &held, e); /* W1 W2 */
  if (r == 0 && !*unchanged)
    piece_done (snap, start, end, held);                            /* W3 */
  return r;
}

/* The copy that "mine" stands for failed.  Broken first, then released: a
 * thread that waited must not think that the cluster is still to be copied,
 * nor that it was.  Older snapshots may need it too: they have their own try.
 * Returns as copy_range.
 */
static enum copy_result
copy_failed (const struct copy_job *job, const struct copy_claim *mine,
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

/* One round of copy_range, from *start on: one claim, and what comes of it.
 * *more tells if there may be others.
 */
static enum copy_result
copy_next (struct copier *c, struct copy_job *job, uint64_t *start,
           uint64_t since, bool *more, int *err)
{
  /* A hole may be as long as it likes: it takes no time. */
  const uint64_t max = job->sparse ? UINT64_MAX :
    piece_clusters (chain_newest (job->chain));
  struct copy_claim *mine = &job->claims[job->nr_claims];
  enum copy_result result = COPY_DONE;
  bool hole, unchanged = false;
  struct error e;

  switch (claim_needed (c, job, *start, max, since, mine)) {
  case CLAIM_NONE:
    *more = false;
    return COPY_DONE;
  case CLAIM_LATE:
    error_set (&e, ETIMEDOUT, "another copy of the same clusters took too "
               "long");
    return copy_failed (job, mine, &e, err);
  case CLAIM_OTHERS:
    stop_comparing (c, job, start);
    return COPY_DONE;
  case CLAIM_MINE:
    break;
  }
  *start = mine->need.start;
  hole = job->sparse && find_hole (c, job, mine);
  if (copy_claimed (c, job, mine, hole, since, &unchanged, &e) == -1) {
    LOG_WATCH (copy, "clusters %" PRIu64 " to %" PRIu64 ", for \"%s\": %s",
               mine->need.start, mine->need.end, mine->need.by->fixed.name,
               e.msg);
    result = copy_failed (job, mine, &e, err);
  }
  else if (unchanged) {
    LOG_WATCH (copy, "clusters %" PRIu64 " to %" PRIu64 ", for \"%s\": the "
               "guest does not change them", mine->need.start, mine->need.end,
               mine->need.by->fixed.name);
    *start = mine->need.end;
    unchanged_keep (c, job);                                        /* U1 */
    if (job->nr_claims == COPY_UNCHANGED_MAX)
      stop_comparing (c, job, start);
    return COPY_DONE;
  }
  else
    LOG_WATCH (copy, "clusters %" PRIu64 " to %" PRIu64 ", for \"%s\": %s",
               mine->need.start, mine->need.end, mine->need.by->fixed.name,
               hole ? "a hole" : "copied");
  copy_claim_release (c, mine);
  return result;
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

