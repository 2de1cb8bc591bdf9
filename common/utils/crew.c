/* SPDX-License-Identifier: BSD-3-Clause */

/* A crew: a queue of tasks, and threads that take them from it.  The closer
 * and the service have one each.
 */

#include <config.h>

#include <errno.h>

#include "utils/cleanup.h"
#include "utils/crew.h"

static struct crew_task *
pop_task (struct crew *c)
{
  struct crew_task *task = c->first;

  if (task) {
    c->first = task->next;
    if (c->first == NULL)
      c->last = &c->first;
    c->queued--;
  }
  return task;
}

static void
crew_thread (void *opaque)
{
  struct crew *c = opaque;
  struct crew_task *task;

  LOCK_FOR_SCOPE (&c->lock);
  for (;;) {
    task = pop_task (c);
    if (task) {
      pthread_mutex_unlock (&c->lock);
      task->run (task, c->owner);
      pthread_mutex_lock (&c->lock);
    }
    else if (c->stop)
      return;
    else {
      c->idle++;
      pthread_cond_wait (&c->work, &c->lock);
      c->idle--;
    }
  }
}

void
crew_init (struct crew *c, void *owner)
{
  *c = (struct crew) { .owner = owner, .last = &c->first };
  pthread_mutex_init (&c->lock, NULL);
  cond_init (&c->work);
  thread_group_init (&c->threads, crew_thread, c);
}

int
crew_run (struct crew *c, struct crew_task *task)
{
  int r = 0;

  LOCK_FOR_SCOPE (&c->lock);
  if (c->stop)
    return ESHUTDOWN;
  if (c->queued >= c->idle)
    r = thread_group_start (&c->threads, c->threads.started + 1);
  if (c->threads.started == 0)
    return r;
  task->next = NULL;
  *c->last = task;
  c->last = &task->next;
  c->queued++;
  pthread_cond_signal (&c->work);
  return 0;
}

void
crew_stop (struct crew *c)
{
  LOCK_FOR_SCOPE (&c->lock);
  c->stop = true;
  pthread_cond_broadcast (&c->work);
}

bool
crew_join (struct crew *c, uint64_t until)
{
  return thread_group_join (&c->threads, until);
}

void
crew_free (struct crew *c)
{
  thread_group_free (&c->threads);
  pthread_cond_destroy (&c->work);
  pthread_mutex_destroy (&c->lock);
}

bool
crew_is_stopping (struct crew *c)
{
  LOCK_FOR_SCOPE (&c->lock);
  return c->stop;
}
