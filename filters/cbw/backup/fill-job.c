/* SPDX-License-Identifier: BSD-3-Clause */

/* One backup's progress: which piece is next, when, and what an error does.
 * fill.c calls all of these functions, with the lock of struct fill held.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "backup/fill-job.h"
#include "below/log.h"
#include "copy/transfer.h"
#include "snapshot/policy.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* How long what failed, or is claimed by guests, is left alone. */
#define RETRY_ERROR NS_PER_SEC
#define RETRY_CLAIMED NS_PER_MS

/* How often the disk may say that it is shutting down, and does not. */
#define REFUSALS_MAX 100

/* A speed limit is kept within this time. */
#define BURST_PER_SEC 8

void
job_put (struct fill_job *job)
{
  if (!job->ended || job->in_flight > 0)
    return;
  snapshot_unref (job->snap);
  free (job);
}

void
job_end (struct fill *f, struct fill_job *job)
{
  struct fill_job **p;

  for (p = &f->jobs; *p != job; p = &(*p)->next)
    ;
  *p = job->next;
  job->ended = true;
}

void
job_fail (struct fill *f, struct fill_job *job)
{
  /* Broken only after it was complete?  That is final. */
  if (!snapshot_is_complete (job->snap)) {
    fill_of (job)->end_ns = now_realtime_ns ();
    atomic_store (&fill_of (job)->state, CBW_JOB_FAILED);
    /* Guests need not copy for it any more, nor fail because of it. */
    snapshot_break (job->snap, CBW_BROKEN_COPY, fill_of (job)->error_num,
                    fill_of (job)->error_offset, "the backup has failed");
  }
  job_end (f, job);
}

void
job_record (struct fill_job *job, int num, bool is_read, uint64_t offset)
{
  struct cbw_job *fill = fill_of (job);

  if (atomic_load (&fill->errors) == 0) {
    fill->error_num = num;
    fill->error_is_read = is_read;
    fill->error_offset = offset;
    fill->error_ns = now_realtime_ns ();
  }
  atomic_fetch_add (&fill->errors, 1);
}

void
job_lost (struct fill *f, struct fill_job *job)
{
  const struct cbw_snapshot *entry = job->snap->entry;

  if (snapshot_state (job->snap) != CBW_SNAPSHOT_BROKEN) {
    job_end (f, job);           /* dropped: nobody wants to know */
    return;
  }
  job_record (job, entry->error_num, false, entry->error_offset);
  job_fail (f, job);
}

void
job_error (struct fill *f, struct fill_job *job, bool is_read,
           uint64_t offset, const struct error *e)
{
  const enum cbw_on_fill_error policy =
    policy_of_backup (job->snap, is_read, e->num);

  if (policy != CBW_FILL_IGNORE || atomic_load (&fill_of (job)->errors) == 0)
    log_error ("cbw: backup \"%s\": at offset %" PRIu64 ": %s%s",
               job->snap->fixed.name, offset, e->msg,
               policy == CBW_FILL_STOP ? "; it waits to be resumed" :
               policy == CBW_FILL_IGNORE ? "; it will try again" : "");
  job_record (job, e->num, is_read, offset);
  job->failed = true;
  if (policy == CBW_FILL_REPORT)
    job_fail (f, job);
  else if (policy == CBW_FILL_STOP)
    atomic_store (&fill_of (job)->state, CBW_JOB_STOPPED);
}

/* Speed: a budget which grows with time, and may be overdrawn by a piece. */
static void
budget_update (struct fill_job *job, uint64_t speed, uint64_t now)
{
  const int64_t burst = (int64_t) max_u64 (speed / BURST_PER_SEC, 1);
  const double grown = (double) (now - job->budget_ns) * (double) speed / 1e9;

  if (speed == 0 || (double) job->budget + grown >= (double) burst) {
    job->budget = burst;
    job->budget_ns = now;
    return;
  }
  /* Whole bytes, and the time that they took. */
  job->budget += (int64_t) grown;
  job->budget_ns += (uint64_t) ((double) (int64_t) grown * 1e9 /
                                (double) speed);
}

/* When may the job's next piece be begun? */
static uint64_t
job_due (struct fill_job *job, uint64_t now)
{
  const uint64_t speed = atomic_load (&fill_of (job)->speed);
  uint64_t due = job->not_before;

  budget_update (job, speed, now);
  if (speed != 0 && job->budget <= 0)
    due = max_u64 (due, job->budget_ns + (uint64_t)
                   ((double) (1 - job->budget) * 1e9 / (double) speed) + 1);
  return due;
}

/* The pass has come to its end: begin another.  False if there is nothing
 * to be begun now.
 */
static bool
next_pass (struct fill_job *job, uint64_t now)
{
  const uint64_t n = snapshot_clusters (job->snap);

  if (job->in_flight > 0)
    return false;               /* the last of them looks again */
  job->cursor = snapshot_next_unsettled (job->snap, 0, n);
  job->data_until = 0;
  if (job->cursor < n)
    job->not_before = now + (job->failed ? RETRY_ERROR : RETRY_CLAIMED);
  job->careful = job->failed;
  job->failed = false;
  return true;
}

bool
job_ready (struct fill_job *job, uint64_t now, uint64_t *then)
{
  const uint64_t n = snapshot_clusters (job->snap);
  uint64_t due;

  if (atomic_load (&fill_of (job)->state) != CBW_JOB_RUNNING ||
      job->finishing)
    return false;
  job->cursor = snapshot_next_unsettled (job->snap, job->cursor, n);
  if (job->cursor == n && !next_pass (job, now))
    return false;
  due = job_due (job, now);
  if (due <= now)
    return true;
  *then = min_u64 (*then, due);
  return false;
}

/* How many clusters are tried at a time? */
static uint64_t
piece_of (const struct fill_job *job)
{
  const struct snapshot *snap = job->snap;
  const uint64_t speed = atomic_load (&fill_of (job)->speed);
  uint64_t n = job->careful ? 1 : piece_clusters (snap);

  if (speed != 0)
    n = min_u64 (n, max_u64 (speed / BURST_PER_SEC / snap->view.cluster_size,
                             1));
  return n;
}

struct fill_stretch
job_take (struct fill_job *job)
{
  const uint64_t start = job->cursor;
  const uint64_t length = min_u64 (piece_of (job),
                                   snapshot_clusters (job->snap) - start);

  job->budget -= (int64_t) (length * job->snap->view.cluster_size);
  job->cursor = start + length;
  return (struct fill_stretch) {
    .start = start, .end = start + length, .charged = length
  };
}

void
job_account (struct fill_job *job, const struct fill_stretch *x,
             uint64_t bytes)
{
  job->budget += (int64_t) (x->charged * job->snap->view.cluster_size);
  job->budget -= (int64_t) bytes;
  atomic_fetch_add (&fill_of (job)->bytes, bytes);
  if (!x->hole)
    job->data_until = max_u64 (job->data_until, x->data_until);
  else if (x->end < x->start + x->charged) /* look at what follows it */
    job->cursor = min_u64 (job->cursor, x->end);
  else
    job->cursor = max_u64 (job->cursor, x->end);
}

bool
job_is_refused (struct fill_job *job, const struct error *e)
{
  return e->num == ESHUTDOWN && job->refusals++ < REFUSALS_MAX;
}
