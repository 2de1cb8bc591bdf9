/* SPDX-License-Identifier: BSD-3-Clause */

/* The threads that end snapshots, started when there is something to end. */

#include <config.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "clock.h"
#include "closer.h"

/* End the first of the queue; the lock is held, but not meanwhile. */
static void
end_first (struct closer *c)
{
  struct snapshot *snap = c->first;
  const struct cbw_snapshot *entry = snap->entry;

  c->first = snap->next;
  c->queued--;
  pthread_mutex_unlock (&c->lock);
  snapshot_end (snap);
  c->ended (c->opaque, entry);
  pthread_mutex_lock (&c->lock);
}

/* The same; what is asked for meanwhile is for another round. */
static void
tidy_once (struct closer *c)
{
  const uint64_t asked = c->asked;

  c->tidying = true;
  pthread_mutex_unlock (&c->lock);
  c->tidy (c->opaque);
  pthread_mutex_lock (&c->lock);
  c->tidying = false;
  c->done = asked;
  pthread_cond_broadcast (&c->tidied);
}

static void
closer_thread (void *opaque)
{
  struct closer *c = opaque;

  LOCK_FOR_SCOPE (&c->lock);
  for (;;)
    if (c->first)
      end_first (c);
    else if (c->stop)
      return;
    else if (c->done < c->asked && !c->tidying)
      tidy_once (c);
    else {
      c->idle++;
      pthread_cond_wait (&c->work, &c->lock);
      c->idle--;
    }
}

void
closer_init (struct closer *c,
             void (*ended) (void *opaque, const struct cbw_snapshot *entry),
             void (*tidy) (void *opaque), void *opaque)
{
  *c = (struct closer) { .ended = ended, .tidy = tidy, .opaque = opaque };
  pthread_mutex_init (&c->lock, NULL);
  cond_init (&c->work);
  cond_init (&c->tidied);
  thread_group_init (&c->threads, closer_thread, c);
}

/* See that a thread comes; the lock is held.  False if there is none at
 * all.
 */
static bool
call_thread (struct closer *c)
{
  if (c->idle <= c->queued && c->threads.started < THREAD_GROUP_MAX)
    thread_group_start (&c->threads, c->threads.started + 1);
  pthread_cond_signal (&c->work);
  return c->threads.started > 0;
}

bool
closer_add (struct closer *c, struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (c->stop || !call_thread (c))
    return false;
  snap->next = c->first;
  c->first = snap;
  c->queued++;
  return true;
}

void
closer_tidy (struct closer *c, uint64_t timeout_ns)
{
  const struct timespec until = deadline (now_monotonic_ns () + timeout_ns);
  uint64_t mine;
  int r = 0;

  LOCK_FOR_SCOPE (&c->lock);
  mine = ++c->asked;
  if (c->stop || !call_thread (c))
    return;
  while (c->done < mine && !c->stop && r == 0)
    r = pthread_cond_timedwait (&c->tidied, &c->lock, &until);
}

void
closer_quit (struct closer *c)
{
  LOCK_FOR_SCOPE (&c->lock);
  c->stop = true;
  pthread_cond_broadcast (&c->work);
  pthread_cond_broadcast (&c->tidied);
}

bool
closer_stop (struct closer *c, uint64_t timeout_ns)
{
  unsigned stuck;

  closer_quit (c);
  stuck = thread_group_end (&c->threads, timeout_ns);
  if (stuck > 0)
    nbdkit_error ("cbw: %u targets cannot be closed; leaving them", stuck);
  return stuck == 0;
}

void
closer_destroy (struct closer *c)
{
  pthread_cond_destroy (&c->tidied);
  pthread_cond_destroy (&c->work);
  pthread_mutex_destroy (&c->lock);
}
