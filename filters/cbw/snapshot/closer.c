/* SPDX-License-Identifier: BSD-3-Clause */

/* The threads that end snapshots, started when there is something to end. */

#include <config.h>

#include "snapshot/closer.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

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

/* The same of tidying, and once more if somebody asks meanwhile. */
static void
tidy_first (struct closer *c)
{
  struct snapshot *snap = c->untidy;

  c->untidy = snap->next_untidy;
  c->queued--;
  do {
    snap->tidy = SNAPSHOT_TIDY_RUNNING;
    pthread_mutex_unlock (&c->lock);
    c->tidy (c->opaque, snap);
    pthread_mutex_lock (&c->lock);
  } while (snap->tidy == SNAPSHOT_TIDY_AGAIN && !c->stop);
  snap->tidy = SNAPSHOT_TIDY_NONE;
  pthread_cond_broadcast (&c->tidied);
  pthread_mutex_unlock (&c->lock);
  snapshot_unref (snap);
  pthread_mutex_lock (&c->lock);
}

static void
closer_thread (void *opaque)
{
  struct closer *c = opaque;

  LOCK_FOR_SCOPE (&c->lock);
  for (;;)
    if (c->first)
      end_first (c);
    else if (c->untidy)
      tidy_first (c);
    else if (c->stop)
      return;
    else {
      c->idle++;
      pthread_cond_wait (&c->work, &c->lock);
      c->idle--;
    }
}

void
closer_init (struct closer *c,
             void (*ended) (void *opaque, const struct cbw_snapshot *entry),
             void (*tidy) (void *opaque, struct snapshot *snap), void *opaque)
{
  *c = (struct closer) { .ended = ended, .tidy = tidy, .opaque = opaque };
  pthread_mutex_init (&c->lock, NULL);
  cond_init (&c->work);
  cond_init (&c->tidied);
  thread_group_init (&c->threads, closer_thread, c);
}

/* See that a thread comes for one snapshot more; the lock is held.  False if
 * there is none at all.
 */
static bool
call_thread (struct closer *c)
{
  if (c->idle <= c->queued && c->threads.started < THREAD_GROUP_MAX)
    thread_group_start (&c->threads, c->threads.started + 1);
  if (c->threads.started == 0)
    return false;
  c->queued++;
  pthread_cond_signal (&c->work);
  return true;
}

bool
closer_add (struct closer *c, struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (c->stop || !call_thread (c))
    return false;
  snap->next = c->first;
  c->first = snap;
  return true;
}

/* The lock is held.  Returns whether it is queued now, and was not. */
static bool
queue_untidy (struct closer *c, struct snapshot *snap)
{
  if (snap->tidy == SNAPSHOT_TIDY_RUNNING)
    snap->tidy = SNAPSHOT_TIDY_AGAIN;
  if (snap->tidy != SNAPSHOT_TIDY_NONE || !call_thread (c))
    return false;
  snap->tidy = SNAPSHOT_TIDY_QUEUED;
  snapshot_ref (snap);
  snap->next_untidy = c->untidy;
  c->untidy = snap;
  return true;
}

void
closer_tidy (struct closer *c, const struct chain *chain, uint64_t timeout_ns)
{
  const struct timespec until = deadline (now_monotonic_ns () + timeout_ns);
  struct snapshot *mine[CBW_NR_SNAPSHOTS];
  size_t nr = 0, i;
  int r = 0;

  LOCK_FOR_SCOPE (&c->lock);
  for (i = 0; chain && i < chain->len && !c->stop; ++i)
    if (snapshot_state (chain->snaps[i]) != CBW_SNAPSHOT_BROKEN &&
        queue_untidy (c, chain->snaps[i]))
      mine[nr++] = chain->snaps[i];
  for (i = 0; i < nr && r == 0 && timeout_ns > 0;)
    if (mine[i]->tidy == SNAPSHOT_TIDY_NONE)
      i++;
    else
      r = pthread_cond_timedwait (&c->tidied, &c->lock, &until);
}

void
closer_stop (struct closer *c)
{
  LOCK_FOR_SCOPE (&c->lock);
  c->stop = true;
  pthread_cond_broadcast (&c->work);
}

bool
closer_join (struct closer *c, uint64_t until)
{
  return thread_group_join (&c->threads, until);
}

void
closer_free (struct closer *c)
{
  thread_group_free (&c->threads);
  pthread_cond_destroy (&c->tidied);
  pthread_cond_destroy (&c->work);
  pthread_mutex_destroy (&c->lock);
}
