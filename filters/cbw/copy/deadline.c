/* SPDX-License-Identifier: BSD-3-Clause */

/* Worker threads that copy for guests' threads which must not wait for ever.
 * copy.c calls this where a snapshot has a time limit.  A guest's thread and
 * its worker share a job, and whichever leaves last frees it.
 */

#include <config.h>

#include <assert.h>
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
  struct transfer transfer;     /* with a reference to its snapshot */
  _Atomic (bool) given_up;
  bool finished;                /* the rest under the pool's lock */
  pthread_cond_t done;
  enum transfer_result result;
  struct error e;
};

/* The lock is held; it is let go meanwhile, as giving up the last reference to
 * a snapshot closes its target, and that may take long.
 */
static void
job_unref (struct deadline_pool *pool, struct deadline_job *job)
{
  assert (job->refs > 0);
  if (--job->refs > 0)
    return;
  pthread_mutex_unlock (&pool->lock);
  snapshot_unref (job->transfer.snap);
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

/* Between read and write: not given up when the old data has been read means
 * that all of the read came before the guest continued.
 */
static bool
is_wanted (void *of, const struct transfer *t, unsigned char *old)
{
  const struct deadline_job *job = of;

  (void) t;
  (void) old;
  atomic_thread_fence (memory_order_acquire);
  return !atomic_load (&job->given_up);
}

static void
worker (void *opaque)
{
  struct deadline_pool *pool = opaque;
  struct deadline_job *job;
  struct transfer *t;

  LOCK_FOR_SCOPE (&pool->lock);
  for (;;) {
    while ((job = pop_job (pool)) == NULL && !pool->stop) {
      pool->idle++;
      pthread_cond_wait (&pool->work, &pool->lock);
      pool->idle--;
    }
    if (job == NULL)
      break;

    t = &job->transfer;
    pthread_mutex_unlock (&pool->lock);
    job->result = transfer_run (pool->buffers, t, &job->e);
    pthread_mutex_lock (&pool->lock);

    if (atomic_load (&job->given_up)) { /* nobody will mark it done */
      accounting_give_back (t->snap, t->held);
      atomic_fetch_sub (&t->snap->late, 1);
    }
    job->finished = true;
    pthread_cond_signal (&job->done);
    job_unref (pool, job);
  }
}

void
deadline_init (struct deadline_pool *pool, struct transfer_buffers *buffers)
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

/* A job for a worker: that reads the source in its own thread. */
static struct deadline_job *
new_job (struct deadline_pool *pool, const struct transfer *t)
{
  struct deadline_job *job = calloc (1, sizeof *job);

  if (job == NULL)
    return NULL;
  job->refs = 2;
  job->transfer = *t;
  job->transfer.from = pool->source;
  job->transfer.decide = is_wanted;
  job->transfer.of = job;
  snapshot_ref (t->snap);
  cond_init (&job->done);
  return job;
}

/* Queue the job, and wait for it.  False if the deadline came first.  The lock
 * is held.
 */
static bool
queue_and_wait (struct deadline_pool *pool, struct deadline_job *job,
                uint64_t until_ns)
{
  const struct timespec until = cond_until (until_ns);
  int r = 0;

  *pool->last = job;
  pool->last = &job->next;
  pool->queued++;
  start_worker (pool);
  pthread_cond_signal (&pool->work);
  while (!job->finished && r == 0)
    r = pthread_cond_timedwait (&job->done, &pool->lock, &until);
  return job->finished;
}

enum transfer_result
deadline_transfer (struct deadline_pool *pool, struct transfer *t,
                   uint64_t since, uint64_t timeout_ns, struct error *e)
{
  enum transfer_result result = TRANSFER_GIVEN_UP;
  struct deadline_job *job = new_job (pool, t);

  t->held = 0;
  if (job == NULL) {
    error_set_errno (e, ENOMEM, "job for a copy");
    return TRANSFER_NO_MEMORY;
  }
  LOCK_FOR_SCOPE (&pool->lock);
  if (queue_and_wait (pool, job, since + timeout_ns)) {
    result = job->result;
    t->held = job->transfer.held;
    *e = job->e;
  }
  else {
    atomic_store (&job->given_up, true);
    withdraw (pool, job);
    if (job->refs > 1)          /* a worker has it */
      atomic_fetch_add (&t->snap->late, 1);
    error_set (e, ETIMEDOUT, "%s: copying took longer than %g s",
               t->snap->fixed.target, (double) timeout_ns / NS_PER_SEC);
  }
  job_unref (pool, job);
  return result;
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
