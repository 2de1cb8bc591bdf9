/* SPDX-License-Identifier: BSD-3-Clause */

/* Starting threads, and waiting for them with a deadline.  A thread that does
 * not end by then is left alone: nothing that it uses may be freed.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>

#include "utils/cleanup.h"
#include "utils/threads.h"

int
thread_start (pthread_t *thread, void *(*run) (void *), void *opaque)
{
  sigset_t all, old;
  int r;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (thread, NULL, run, opaque);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return r;
}

void
cond_init (pthread_cond_t *cond)
{
  pthread_condattr_t attr;

  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (cond, &attr);
  pthread_condattr_destroy (&attr);
}

void
thread_group_init (struct thread_group *g, void (*run) (void *opaque),
                   void *opaque)
{
  *g = (struct thread_group) { .run = run, .opaque = opaque };
  pthread_mutex_init (&g->lock, NULL);
  cond_init (&g->ended);
}

static void *
member (void *opaque)
{
  struct thread_group *g = opaque;

  g->run (g->opaque);
  LOCK_FOR_SCOPE (&g->lock);
  if (--g->running == 0)
    pthread_cond_signal (&g->ended);
  return NULL;
}

int
thread_group_start (struct thread_group *g, unsigned n)
{
  int r = 0;

  LOCK_FOR_SCOPE (&g->lock);
  while (r == 0 && g->started < n) {
    r = g->started == THREAD_GROUP_MAX ? EAGAIN :
      thread_start (&g->threads[g->started], member, g);
    if (r == 0) {
      g->started++;
      g->running++;
    }
  }
  return r;
}

void
thread_group_join (struct thread_group *g)
{
  unsigned i;

  for (i = 0; i < g->started; ++i)
    pthread_join (g->threads[i], NULL);
  pthread_cond_destroy (&g->ended);
  pthread_mutex_destroy (&g->lock);
}

unsigned
thread_group_wait (struct thread_group *g, uint64_t timeout_ns)
{
  const struct timespec until = deadline (now_monotonic_ns () + timeout_ns);
  int r = 0;

  LOCK_FOR_SCOPE (&g->lock);
  while (g->running > 0 && r == 0)
    r = pthread_cond_timedwait (&g->ended, &g->lock, &until);
  return g->running;
}

unsigned
thread_group_end (struct thread_group *g, uint64_t timeout_ns)
{
  const unsigned left = thread_group_wait (g, timeout_ns);
  unsigned i;

  if (left == 0)
    thread_group_join (g);
  else                          /* nobody will join any */
    for (i = 0; i < g->started; ++i)
      pthread_detach (g->threads[i]);
  return left;
}
