/* SPDX-License-Identifier: BSD-3-Clause */

/* Writes that change nothing, until they have ended. */

#include <config.h>

#include <assert.h>
#include <string.h>

#include "copy/unchanged.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* The part of clusters [start, end) that the guest is about to write. */
static bool
overlap (const struct copy_job *job, const struct snapshot *snap,
         uint64_t start, uint64_t end, uint64_t *from, uint64_t *to)
{
  const uint64_t offset = start * snap->view.cluster_size;

  *from = max_u64 (offset, job->offset);
  *to = min_u64 (offset + snapshot_bytes (snap, start, end),
                 job->offset + job->count);
  return *from < *to;
}

/* Is the old data just what the guest is about to write there?  Skip the
 * comparison where the guest writes less than half of it: all of it would be
 * read each time that the guest does so.
 */
bool
unchanged_is (const struct copy_job *job, const struct transfer *t,
              const unsigned char *old)
{
  uint64_t from, to;

  return job->compare &&
    overlap (job, t->snap, t->start, t->end, &from, &to) &&
    to - from >= transfer_bytes (t) / 2 &&
    memcmp (old + (from - transfer_offset (t)),
            job->data + (from - job->offset), to - from) == 0;
}

/* Keep a claim whose clusters the guest does not change. */
void
unchanged_keep (struct copier *c, struct copy_job *job)
{
  LOCK_FOR_SCOPE (&c->claims.lock);
  assert (job->nr_claims < COPY_UNCHANGED_MAX);
  job->claims[job->nr_claims++].unchanged = job;
  atomic_fetch_add (&c->unchanged, 1);
  if (c->unchanged_shared)
    atomic_fetch_add (c->unchanged_shared, 1);
}

void
unchanged_release (struct copier *c, struct copy_job *job)
{
  while (job->nr_claims > 0) {
    claim_release (&c->claims, &job->claims[--job->nr_claims]);
    /* Last: a reader that finds no such claim finds the done bits. */
    atomic_fetch_sub (&c->unchanged, 1);
    if (c->unchanged_shared)
      atomic_fetch_sub (c->unchanged_shared, 1);
  }
}

/* Between read and write: put the job's data over what the source holds. */
static bool
put_over (void *of, const struct transfer *t, unsigned char *old)
{
  const struct copy_job *job = of;
  uint64_t from, to;

  if (overlap (job, t->snap, t->start, t->end, &from, &to))
    memcpy (old + (from - transfer_offset (t)),
            job->data + (from - job->offset), to - from);
  return true;
}

/* Copy what was kept after all, to all who need it. */
static void
copy_kept (struct copier *c, struct copy_job *job, const struct claim *mine)
{
  struct chain_need need;
  struct transfer t;
  uint64_t from, to;
  struct error e;

  while (chain_next_needed (job->chain, mine->need.start, mine->need.end,
                            &need)) {
    t = (struct transfer) {
      .snap = need.by, .start = need.start, .end = need.end,
      .from = job->source, .to = need.by->view.store,
      .decide = put_over, .of = job,
    };
    /* All of it may be the job's. */
    if (overlap (job, t.snap, t.start, t.end, &from, &to) &&
        to - from == transfer_bytes (&t))
      t.known = job->data + (from - job->offset);
    if (transfer_run (&c->buffers, &t, &e) == TRANSFER_DONE)
      transfer_set_done (&t, mine);
    else
      snapshot_break (need.by, CBW_BROKEN_COPY, e.num, transfer_offset (&t),
                      e.msg);
  }
}

/* From now on the claims are of copies: those that wait for copies see that,
 * or have seen before what they wait for (access, D1).
 */
static void
begin_copying (struct copier *c, struct copy_job *job)
{
  unsigned i;

  LOCK_FOR_SCOPE (&c->claims.lock);
  for (i = 0; i < job->nr_claims; ++i)
    job->claims[i].copying = true;
}

void
copy_end (struct copier *c, struct copy_job *job, bool failed)
{
  unsigned i;

  if (failed)
    begin_copying (c, job);
  for (i = 0; failed && i < job->nr_claims; ++i)                    /* U2 */
    copy_kept (c, job, &job->claims[i]);
  unchanged_release (c, job);                                       /* U3 */
}

/* Is the claim one whose clusters are being written as they are, and part of
 * the range?  Sets that part.  The lock is held.
 */
static bool
uncertain_part (const struct claim *claim, uint64_t offset,
                uint64_t end, uint64_t *from, uint64_t *to)
{
  if (claim->unchanged == NULL ||
      !overlap (claim->unchanged, chain_newest (claim->unchanged->chain),
                claim->need.start, claim->need.end, from, to))
    return false;
  *from = max_u64 (*from, offset);
  *to = min_u64 (*to, end);
  return *from < *to;
}

void
copy_overlay (struct copier *c, void *at, uint64_t offset, uint64_t count)
{
  const struct claim *other;
  uint64_t from, to;

  if (atomic_load (&c->unchanged) == 0)
    return;
  LOCK_FOR_SCOPE (&c->claims.lock);
  for (other = c->claims.first; other; other = other->next)
    if (uncertain_part (other, offset, offset + count, &from, &to))
      memcpy ((char *) at + (from - offset), other->unchanged->data +
              (from - other->unchanged->offset), to - from);
}

uint64_t
copy_first_uncertain (struct copier *c, uint64_t offset, uint64_t count)
{
  const struct claim *other;
  uint64_t first = offset + count, from, to;

  if (atomic_load (&c->unchanged) == 0)
    return first;
  LOCK_FOR_SCOPE (&c->claims.lock);
  for (other = c->claims.first; other; other = other->next)
    if (uncertain_part (other, offset, offset + count, &from, &to))
      first = min_u64 (first, from);
  return first;
}
