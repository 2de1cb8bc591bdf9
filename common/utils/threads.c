/* SPDX-License-Identifier: BSD-3-Clause */

/* Starting threads, and joining them with a deadline.  Threads that do not
 * end by then can be joined later, or left: then nothing that they use may be
 * freed.
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

bool
thread_group_join (struct thread_group *g, uint64_t until)
{
  const struct timespec limit = cond_until (until);
  int r = 0;

  LOCK_FOR_SCOPE (&g->lock);
  while (g->running > 0 && r == 0)
    r = pthread_cond_timedwait (&g->ended, &g->lock, &limit);
  g->late = g->running;
  if (g->late > 0)
    return false;
  /* They have let go of the lock, and take no other. */
  for (; g->joined < g->started; ++g->joined)
    pthread_join (g->threads[g->joined], NULL);
  return true;
}

unsigned
thread_group_leave (struct thread_group *g)
{
  LOCK_FOR_SCOPE (&g->lock);
  for (; g->joined < g->started; ++g->joined)
    pthread_detach (g->threads[g->joined]);
  return g->late;
}

void
thread_group_free (struct thread_group *g)
{
  pthread_cond_destroy (&g->ended);
  pthread_mutex_destroy (&g->lock);
}
