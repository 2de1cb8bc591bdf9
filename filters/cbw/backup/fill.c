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
#include "copy/piece.h"
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

/* How long a thread waits that has no memory, or for a late copy. */
#define RETRY (NS_PER_SEC / 10)

/* How often the disk may say that it is shutting down, and does not. */
#define REFUSALS_MAX 100

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

/* Everything is settled: sync the image, give it its name, and only then say
 * so.
 */
static void
complete_backup (struct fill *f, struct fill_job *job)
{
  struct snapshot *snap = job->snap;
  bool published = false, complete = false;
  struct error e;
  int r;

  if (atomic_load (&snap->late) > 0) {
    /* A copy that was given up may yet write, the same bytes. */
    job->not_before = now_monotonic_ns () + RETRY;
    return;
  }
  job->finishing = true;
  job_begin (f, job);
  r = snap->view.store->ops->flush (snap->view.store, &e);          /* F4 */
  if (r == 0) {
    /* After the data: a change that was not preserved would have broken it
     * first.  It is not published, and replaces nothing, unless it is right.
     */
    atomic_thread_fence (memory_order_acquire);
    if (snapshot_state (snap) == CBW_SNAPSHOT_LIVE) {               /* F5 */
      r = target_publish (&snap->fixed, snap->target, &e);          /* F6 */
      published = r == 0 && (snap->fixed.target_flags & CBW_TARGET_PARTIAL);
    }
    complete = r == 0 && snapshot_complete (snap, published);       /* F7 */
  }
  LOG_WATCH (backup, "\"%s\": %s", snap->fixed.name,
             complete ? "complete" : r == 0 ? "not wanted" : e.msg);
  pthread_mutex_lock (&f->lock);
  job->finishing = false;
  if (complete && !job->ended)
    job_end (f, job);
  else if (r == -1 && e.num == ESHUTDOWN && job->refusals++ < REFUSALS_MAX)
    job->not_before = now_monotonic_ns () + RETRY; /* for the next server */
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

/* Settle one piece, or a hole of any length. */
static void
settle_piece (struct fill *f, struct fill_job *job, void *buf)
{
  const uint64_t n = snapshot_clusters (job->snap), start = job->cursor;
  const uint64_t length = min_u64 (job_piece (job), n - start);
  const uint64_t cs = job->snap->view.cluster_size;
  struct settle s = {
    .chain = f->chain, .copier = f->copier, .source = f->source,
    .snap = job->snap, .buf = buf,
  };
  bool probe = start + length > job->data_until, hole = false;
  uint64_t end = start + length, until = 0;
  struct error e;
  int r;

  /* Charged before: the other threads must know of it. */
  job->budget -= (int64_t) (length * cs);
  job->cursor = end;
  job_begin (f, job);
  if (probe) {
    until = settle_probe (&s, start, n, &hole);
    if (hole)
      end = until;
    /* Zeroes that must be written take time, for which guests may wait. */
    if (hole && !job->snap->target->reads_zero)
      end = min_u64 (end, start + max_u64 (ZEROES / cs, length));
  }
  r = settle_range (&s, start, end, hole, &e);
  LOG_WATCH (backup, "\"%s\": clusters %" PRIu64 " to %" PRIu64 "%s: %s",
             job->snap->fixed.name, start, end, hole ? ", a hole" : "",
             r == 0 ? "settled" : e.msg);
  pthread_mutex_lock (&f->lock);

  job->budget += (int64_t) (length * cs);
  job->budget -= (int64_t) s.bytes;
  atomic_fetch_add (&fill_of (job)->bytes, s.bytes);
  if (hole && end < start + length) /* look at what follows it */
    job->cursor = min_u64 (job->cursor, end);
  else if (hole)
    job->cursor = max_u64 (job->cursor, end);
  else
    job->data_until = max_u64 (job->data_until, until);
  if (r == 0)
    job->refusals = 0;
  else if (e.num == ESHUTDOWN && job->refusals++ < REFUSALS_MAX)
    /* The disk is going, and we with it: for the next server. */
    job->not_before = now_monotonic_ns () + RETRY;
  else if (!job->ended)
    job_error (f, job, s.error_is_read, s.error_offset, &e);
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

/* Of a piece; all snapshots have clusters of one size. */
static void *
new_buffer (const struct snapshot *snap)
{
  void *buf;

  return posix_memalign (&buf, 4096, piece_clusters (snap) *
                         snap->view.cluster_size) == 0 ? buf : NULL;
}

static void
fill_thread (void *opaque)
{
  struct fill *f = opaque;
  struct fill_job *job;
  unsigned index;
  void *buf = NULL;
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
    else if (buf || (buf = new_buffer (job->snap)) != NULL)
      settle_piece (f, job, buf);
    else
      wait_until (f, now_monotonic_ns () + RETRY);
  }
  free (buf);
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

/* Was its job begun by a later version?  A kind never changes, and this is
 * our own copy.
 */
static bool
has_unknown_job (const struct snapshot *snap)
{
  return snap->fixed.job.kind != CBW_JOB_NONE &&
    snap->fixed.job.kind != CBW_JOB_BACKUP;
}

int
fill_add (struct fill *f, struct snapshot *snap, struct error *e)
{
  const uint32_t state = atomic_load (&snap->entry->job.state);
  struct fill_job *job, **p;
  int r;

  if (has_unknown_job (snap))
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

static struct fill_job *
find_job (struct fill *f, uint64_t id)
{
  struct fill_job *job;

  for (job = f->jobs; job; job = job->next)
    if (job->snap->view.id == id &&
        snapshot_state (job->snap) == CBW_SNAPSHOT_LIVE)
      return job;
  return NULL;
}

/* Why is there no job of this snapshot? */
static int
explain (struct fill *f, uint64_t id, struct error *e)
{
  struct chain *chain = chain_get (f->chain);
  const int i = chain_find (chain, id);
  const struct snapshot *snap = i >= 0 ? chain->snaps[i] : NULL;

  if (snap == NULL || snapshot_state (snap) == CBW_SNAPSHOT_HIDDEN)
    error_set (e, ENOENT, "there is no such snapshot any more");
  else if (has_unknown_job (snap))
    error_set (e, ENOTSUP, "snapshot \"%s\" has a job that this server does "
               "not know", snap->fixed.name);
  else if (!snap->fixed.options.backup)
    error_set (e, EINVAL, "snapshot \"%s\" is not a backup",
               snap->fixed.name);
  else
    error_set (e, EALREADY, "backup \"%s\" %s", snap->fixed.name,
               snapshot_is_complete (snap) ? "is complete" : "has failed");
  chain_put (chain);
  return -1;
}

int
fill_control (struct fill *f, uint64_t id, enum cbw_job_action action,
              uint64_t speed, struct error *e)
{
  uint32_t running = CBW_JOB_RUNNING, paused = CBW_JOB_PAUSED;
  uint32_t stopped = CBW_JOB_STOPPED;
  struct fill_job *job;

  {
    LOCK_FOR_SCOPE (&f->lock);
    job = find_job (f, id);
    switch (job ? (int) action : 0) {
    case 0:
      break;
    case CBW_JOB_PAUSE:
      atomic_compare_exchange_strong (&fill_of (job)->state, &running,
                                      CBW_JOB_PAUSED);
      break;
    case CBW_JOB_RESUME:
      /* From no other state: it may be complete just now. */
      if (!atomic_compare_exchange_strong (&fill_of (job)->state, &paused,
                                           CBW_JOB_RUNNING))
        atomic_compare_exchange_strong (&fill_of (job)->state, &stopped,
                                        CBW_JOB_RUNNING);
      job->not_before = 0;
      break;
    case CBW_JOB_SPEED:
      atomic_store (&fill_of (job)->speed, speed);
      break;
    default:
      return error_set (e, EINVAL, "unknown action %d", (int) action);
    }
    pthread_cond_broadcast (&f->wake);
  }
  return job ? 0 : explain (f, id, e);
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
