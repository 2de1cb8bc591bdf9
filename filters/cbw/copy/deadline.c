/* SPDX-License-Identifier: BSD-3-Clause */

/* Worker threads that copy for guests' threads which must not wait for ever.
 * copy.c calls this where a snapshot has a time limit.  A guest's thread and
 * its worker share a job, and whichever leaves last frees it.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "below/log.h"
#include "copy/deadline.h"
#include "snapshot/accounting.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/threads.h"

/* A job belongs to the guest's thread and to the worker, until each has
 * done with it.
 */
struct deadline_job {
  struct deadline_job *next;
  unsigned refs;                /* under the pool's lock */
  struct snapshot *snap;        /* a reference */
  uint64_t start, end;
  bool hole;
  _Atomic (bool) given_up;
  bool finished;                /* the rest under the pool's lock */
  pthread_cond_t done;
  int r;
  uint64_t held;
  struct error e;
};

/* The lock is held; it is let go meanwhile, as giving up the last reference to
 * a snapshot closes its target, and that may take long.
 */
static void
job_unref (struct deadline_pool *pool, struct deadline_job *job)
{
  if (--job->refs > 0)
    return;
  pthread_mutex_unlock (&pool->lock);
  snapshot_unref (job->snap);
  pthread_cond_destroy (&job->done);
  free (job);
  pthread_mutex_lock (&pool->lock);
}

/* Nobody waits for the job any more: if no worker has it, none need.  The
 * lock is held.
 */
static void
withdraw (struct deadline_pool *pool, struct deadline_job *job)
{
  struct deadline_job **p;

  for (p = &pool->first; *p && *p != job; p = &(*p)->next)
    ;
  if (*p == NULL)
    return;
  *p = job->next;
  if (pool->last == &job->next)
    pool->last = p;
  pool->queued--;
  job->refs--;
}

static struct deadline_job *
pop_job (struct deadline_pool *pool)
{
  struct deadline_job *job = pool->first;

  if (job) {
    pool->first = job->next;
    if (pool->first == NULL)
      pool->last = &pool->first;
    pool->queued--;
  }
  return job;
}

/* Not given up when the old data has been read means that all of the read
 * came before the guest went on.
 */
static int
copy_piece (struct piece_pool *buffers, struct image *source,
            const struct deadline_job *job, uint64_t *held, struct error *e)
{
  void *old = piece_read (buffers, job->snap, source, job->start, job->end,
                          e);
  int r;

  if (old == NULL)
    return -1;
  atomic_thread_fence (memory_order_acquire);
  r = atomic_load (&job->given_up) ?
    error_set (e, ETIMEDOUT, "the copy was given up") :
    piece_write (job->snap, job->snap->view.store, old, job->start, job->end,
                 held, e);
  piece_put (buffers, old);
  return r;
}

static void
worker (void *opaque)
{
  struct deadline_pool *pool = opaque;
  struct deadline_job *job;
  struct error e;
  uint64_t held;
  int r;

  LOCK_FOR_SCOPE (&pool->lock);
  for (;;) {
    while ((job = pop_job (pool)) == NULL && !pool->stop) {
      pool->idle++;
      pthread_cond_wait (&pool->work, &pool->lock);
      pool->idle--;
    }
    if (job == NULL)
      break;

    pthread_mutex_unlock (&pool->lock);
    held = 0;
    r = job->hole ? piece_zero (job->snap, job->start, job->end, &e) :
      copy_piece (pool->buffers, pool->source, job, &held, &e);
    pthread_mutex_lock (&pool->lock);

    job->r = r;
    job->held = held;
    if (r == -1)
      job->e = e;
    else if (atomic_load (&job->given_up)) /* nobody will mark it done */
      accounting_give_back (job->snap, held);
    if (atomic_load (&job->given_up))
      atomic_fetch_sub (&job->snap->late, 1);
    job->finished = true;
    pthread_cond_signal (&job->done);
    job_unref (pool, job);
  }
}

void
deadline_init (struct deadline_pool *pool, struct piece_pool *buffers)
{
  *pool = (struct deadline_pool) { .buffers = buffers };
  pthread_mutex_init (&pool->lock, NULL);
  cond_init (&pool->work);
  pool->last = &pool->first;
  thread_group_init (&pool->workers, worker, pool);
}

/* Start one more worker if the queue needs it.  The lock is held. */
static void
start_worker (struct deadline_pool *pool)
{
  const unsigned n = pool->workers.started;

  if (pool->queued > pool->idle && n < DEADLINE_THREADS_MAX)
    thread_group_start (&pool->workers, n + 1);
}

int
deadline_copy (struct deadline_pool *pool, struct snapshot *snap,
               uint64_t start, uint64_t end, bool hole, uint64_t since,
               uint64_t timeout_ns, uint64_t *held, struct error *e)
{
  const struct timespec until = cond_until (since + timeout_ns);
  struct deadline_job *job = calloc (1, sizeof *job);
  int r = 0;

  if (job == NULL)
    return error_set_errno (e, ENOMEM, "job for a copy");
  job->refs = 2;
  snapshot_ref (snap);
  job->snap = snap;
  job->start = start;
  job->end = end;
  job->hole = hole;
  cond_init (&job->done);

  LOCK_FOR_SCOPE (&pool->lock);
  *pool->last = job;
  pool->last = &job->next;
  pool->queued++;
  start_worker (pool);
  pthread_cond_signal (&pool->work);
  while (!job->finished && r == 0)
    r = pthread_cond_timedwait (&job->done, &pool->lock, &until);

  if (job->finished) {
    r = job->r;
    *held = job->held;
    if (r == -1)
      *e = job->e;
  }
  else {
    atomic_store (&job->given_up, true);
    withdraw (pool, job);
    if (job->refs > 1)          /* a worker has it */
      atomic_fetch_add (&snap->late, 1);
    r = error_set (e, ETIMEDOUT, "%s: copying took longer than %g s",
                   snap->fixed.target, (double) timeout_ns / NS_PER_SEC);
  }
  job_unref (pool, job);
  return r;
}

void
deadline_stop (struct deadline_pool *pool)
{
  unsigned n;

  {
    LOCK_FOR_SCOPE (&pool->lock);
    if (pool->stop)
      return;
    pool->stop = true;
    pthread_cond_broadcast (&pool->work);
    n = pool->workers.started - pool->idle;
  }
  if (n > 0)
    log_error ("cbw: waiting for %u copies that took too long", n);
}

bool
deadline_join (struct deadline_pool *pool, uint64_t until)
{
  return thread_group_join (&pool->workers, until);
}

void
deadline_free (struct deadline_pool *pool)
{
  thread_group_free (&pool->workers);
  pthread_cond_destroy (&pool->work);
  pthread_mutex_destroy (&pool->lock);
}
