/* SPDX-License-Identifier: BSD-3-Clause */

/* The threads that fill the targets of backups.  They take the next piece of
 * the oldest backup that is ready, settle it without the lock (settle.c), and
 * record the result.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "backup/fill-job.h"
#include "backup/fill.h"
#include "backup/settle.h"
#include "below/log.h"
#include "copy/transfer.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

/* How long a piece is put off while guests copy. */
#define COURTESY NS_PER_MS

/* How many threads work all the same: never none, or a busy guest could keep
 * a backup from ever ending.
 */
#define FILL_THREADS_BUSY 2

/* How long a job is left alone for want of memory, or for a late copy. */
#define RETRY (NS_PER_SEC / 10)

/* How much of a hole is written as zeroes in one go, where it must be. */
#define ZEROES (4 * 1024 * 1024)

#define NEVER UINT64_MAX

/* Wait, with the lock held, until something changes or until "then". */
static void
wait_until (struct fill *f, uint64_t then)
{
  const struct timespec ts = cond_until (then);

  if (then == NEVER)
    pthread_cond_wait (&f->wake, &f->lock);
  else
    pthread_cond_timedwait (&f->wake, &f->lock, &ts);
}

/* The oldest job with something to do. */
static struct fill_job *
next_job (struct fill *f, uint64_t now, uint64_t *then)
{
  struct fill_job *job, *next;

  for (job = f->jobs; job; job = next) {
    next = job->next;
    if (snapshot_state (job->snap) != CBW_SNAPSHOT_LIVE) {
      job_lost (f, job);
      job_put (job);
    }
    else if (job_ready (job, now, then))
      return job;
  }
  return NULL;
}

/* ---- Doing it; the lock is held, but for the work itself ---- */

/* The job is this thread's to work for. */
static void
job_begin (struct fill *f, struct fill_job *job)
{
  job->in_flight++;
  pthread_mutex_unlock (&f->lock);
}

static void
job_leave (struct fill *f, struct fill_job *job)
{
  if (--job->in_flight == 0)
    pthread_cond_broadcast (&f->wake);
  job_put (job);
}

/* Sync the image, give it its name, and only then say that it is complete.
 * 0, or -1 with the error set.
 */
static int
finish_image (struct snapshot *snap, bool *complete, struct error *e)
{
  bool published = false;

  if (snap->view.store->ops->flush (snap->view.store, e) == -1)     /* F4 */
    return -1;
  /* After the data: a change that was not preserved would have broken it
   * first.  It is not published, and replaces nothing, unless it is right.
   */
  atomic_thread_fence (memory_order_acquire);
  if (snapshot_state (snap) == CBW_SNAPSHOT_LIVE) {                 /* F5 */
    if (target_publish (&snap->fixed, snap->target, e) == -1)       /* F6 */
      return -1;
    published = snap->fixed.target_flags & CBW_TARGET_PARTIAL;
  }
  *complete = snapshot_complete (snap, published);                  /* F7 */
  return 0;
}

/* Everything is settled: finish the image, and end the job. */
static void
complete_backup (struct fill *f, struct fill_job *job)
{
  struct snapshot *snap = job->snap;
  bool complete = false;
  struct error e;
  int r;

  if (atomic_load (&snap->late) > 0) {
    /* A copy that was given up may yet write, the same bytes. */
    job->not_before = now_monotonic_ns () + RETRY;
    return;
  }
  job->finishing = true;
  job_begin (f, job);
  r = finish_image (snap, &complete, &e);
  LOG_WATCH (backup, "\"%s\": %s", snap->fixed.name,
             complete ? "complete" : r == 0 ? "not wanted" : e.msg);
  pthread_mutex_lock (&f->lock);
  job->finishing = false;
  if (complete && !job->ended)
    job_end (f, job);
  else if (r == -1 && job_is_refused (job, &e))
    job->not_before = now_monotonic_ns () + RETRY;
  else if (r == -1 && !job->ended) {
    /* Whatever the policy: the kernel reports once that it could not write
     * something, and forgets it.  To try again would be to believe it.
     */
    log_error ("cbw: backup \"%s\": %s", snap->fixed.name, e.msg);
    snapshot_break (snap, CBW_BROKEN_TARGET, e.num, 0, e.msg);
    job_record (job, e.num, false, 0);
    job_fail (f, job);
  }
  job_leave (f, job);
}

/* Does it begin with a hole?  Then it is all of that. */
static void
probe_stretch (const struct settle *s, struct fill_stretch *x)
{
  const uint64_t n = snapshot_clusters (s->snap);
  const uint64_t cs = s->snap->view.cluster_size;

  x->data_until = settle_probe (s, x->start, n, &x->hole);
  if (!x->hole)
    return;
  x->end = x->data_until;
  /* Zeroes that must be written take time, for which guests may wait. */
  if (!s->snap->target->reads_zero)
    x->end = min_u64 (x->end, x->start + max_u64 (ZEROES / cs, x->charged));
}

/* Do what the result of settling a stretch asks for. */
static void
end_stretch (struct fill *f, struct fill_job *job, enum transfer_result r,
             const struct settle *s, const struct error *e)
{
  const bool is_read = r == TRANSFER_READ_FAILED;

  if (r == TRANSFER_DONE)
    job->refusals = 0;
  else if (r == TRANSFER_LEFT_OUT || r == TRANSFER_NO_MEMORY ||
           job_is_refused (job, e))
    job->not_before = now_monotonic_ns () + RETRY;
  else if (!job->ended)
    job_error (f, job, is_read, s->error_offset, e);
}

static void
settle_piece (struct fill *f, struct fill_job *job)
{
  struct fill_stretch x = job_take (job);
  /* What is compared is read in pieces, holes too. */
  const bool probe = x.end > job->data_until && !settle_compares (job->snap);
  struct settle s = {
    .chain = f->chain, .copier = f->copier, .source = f->source,
    .snap = job->snap,
  };
  enum transfer_result r;
  struct error e;

  job_begin (f, job);
  if (probe)
    probe_stretch (&s, &x);
  r = settle_range (&s, x.start, x.end, x.hole, &e);
  LOG_WATCH (backup, "\"%s\": clusters %" PRIu64 " to %" PRIu64 "%s: %s",
             job->snap->fixed.name, x.start, x.end, x.hole ? ", a hole" : "",
             r == TRANSFER_DONE ? "settled" :
             r == TRANSFER_LEFT_OUT ? "the snapshot is gone" : e.msg);
  pthread_mutex_lock (&f->lock);
  job_account (job, &x, s.bytes);
  end_stretch (f, job, r, &s, &e);
  job_leave (f, job);
}

/* Guests come first.  Returns false if it is not this thread's turn. */
static bool
give_way (struct fill *f, unsigned index, uint64_t *then)
{
  const uint64_t now = now_monotonic_ns ();

  if (atomic_load_explicit (&f->copier->guests, memory_order_relaxed) == 0)
    return true;
  if (index < FILL_THREADS_BUSY)
    return true;
  *then = now + COURTESY;
  return false;
}

static void
fill_thread (void *opaque)
{
  struct fill *f = opaque;
  struct fill_job *job;
  unsigned index;
  uint64_t then;

  LOCK_FOR_SCOPE (&f->lock);
  index = f->next_index++;
  while (!f->stop) {
    then = NEVER;
    job = next_job (f, now_monotonic_ns (), &then);
    if (job && !give_way (f, index, &then))
      job = NULL;
    else if (job)               /* it may have changed while we gave way */
      job = next_job (f, now_monotonic_ns (), &then);
    if (f->stop)
      break;
    if (job == NULL) {
      wait_until (f, then);
      continue;
    }
    if (job->cursor == snapshot_clusters (job->snap))
      complete_backup (f, job);
    else
      settle_piece (f, job);
  }
}

/* ---- From outside ---- */

void
fill_init (struct fill *f, struct chain_head *chain, struct copier *copier)
{
  *f = (struct fill) { .chain = chain, .copier = copier };
  pthread_mutex_init (&f->lock, NULL);
  cond_init (&f->wake);
  thread_group_init (&f->threads, fill_thread, f);
}

int
fill_add (struct fill *f, struct snapshot *snap, struct error *e)
{
  const uint32_t state = atomic_load (&snap->entry->job.state);
  struct fill_job *job, **p;
  int r;

  if (job_is_unknown (snap))
    log_error ("cbw: snapshot \"%s\" has a job that this program does not "
               "know (kind %" PRIu32 "): the snapshot is kept, and the job "
               "is left to the newer nbdkit-cbw that began it",
               snap->fixed.name, snap->fixed.job.kind);
  if (snap->fixed.job.kind != CBW_JOB_BACKUP || state == CBW_JOB_COMPLETE ||
      state == CBW_JOB_FAILED)
    return 0;
  job = calloc (1, sizeof *job);
  if (job == NULL)
    return error_set_errno (e, ENOMEM, "backup \"%s\"", snap->fixed.name);
  snapshot_ref (snap);
  job->snap = snap;
  job->budget_ns = now_monotonic_ns ();

  LOCK_FOR_SCOPE (&f->lock);
  r = thread_group_start (&f->threads, FILL_THREADS);
  if (f->threads.started == 0) {
    snapshot_unref (snap);
    free (job);
    return error_set_errno (e, r, "cannot start a thread for the backup");
  }
  for (p = &f->jobs; *p; p = &(*p)->next)
    ;
  *p = job;
  pthread_cond_broadcast (&f->wake);
  return 0;
}

void
fill_wake (struct fill *f)
{
  LOCK_FOR_SCOPE (&f->lock);
  pthread_cond_broadcast (&f->wake);
}

void
fill_stop (struct fill *f)
{
  LOCK_FOR_SCOPE (&f->lock);
  f->stop = true;
  pthread_cond_broadcast (&f->wake);
}

bool
fill_join (struct fill *f, uint64_t until)
{
  return thread_group_join (&f->threads, until);
}

void
fill_free (struct fill *f)
{
  struct fill_job *job;

  while ((job = f->jobs) != NULL) {
    job_end (f, job);
    job_put (job);
  }
  thread_group_free (&f->threads);
  pthread_cond_destroy (&f->wake);
  pthread_mutex_destroy (&f->lock);
}
