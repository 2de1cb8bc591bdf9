/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads for tasks that may take long, and of which none is to wait for
 * another: one is started when a task finds no thread idle, up to
 * THREAD_GROUP_MAX.  They stay, for the next.
 *
 * The lock is a leaf but for the thread group's, and not held while a task runs.
 */

#ifndef CBW_CREW_H
#define CBW_CREW_H

#include <pthread.h>
#include <stdbool.h>

#include "utils/threads.h"

/* The crew's from crew_run until run() is called; then it may be used again,
 * or freed.  "owner" is the crew's.
 */
struct crew_task {
  void (*run) (struct crew_task *task, void *owner);
  struct crew_task *next;
};

struct crew {
  void *owner;

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t work;          /* the queue has a task, or stop */
  struct crew_task *first, **last; /* queue */
  unsigned queued;              /* tasks in it */
  unsigned idle;                /* threads */
  bool stop;
  struct thread_group threads;  /* started under the lock */
};

extern void crew_init (struct crew *c, void *owner);

/* Have the task run.  0, or an errno: ESHUTDOWN if the crew has been stopped,
 * or why there is no thread at all for it.
 */
extern int crew_run (struct crew *c, struct crew_task *task);

/* As in threads.h.  The threads end when no task is queued any more. */
extern void crew_stop (struct crew *c);
extern bool crew_join (struct crew *c, uint64_t until);
extern void crew_free (struct crew *c);

/* Has it been stopped?  A task that is not needed any more then asks this when
 * it begins.
 */
extern bool crew_is_stopping (struct crew *c);

#endif /* CBW_CREW_H */
