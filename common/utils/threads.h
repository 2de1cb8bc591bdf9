/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of our own in a program that is not, and waits that end: for
 * something that changes, or for threads.
 */

#ifndef CBW_THREADS_H
#define CBW_THREADS_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "utils/clock.h"

/* Start a thread with all signals blocked: they are the business of the
 * program's own threads.  Returns 0 or an errno, as pthread_create.
 */
extern int thread_start (pthread_t *thread, void *(*run) (void *),
                         void *opaque);

/* A condition variable whose waits end by now_monotonic_ns. */
extern void cond_init (pthread_cond_t *cond);

/* That moment, as such waits take it. */
static inline struct timespec
deadline (uint64_t ns)
{
  return (struct timespec) {
    .tv_sec = (time_t) (ns / NS_PER_SEC), .tv_nsec = (long) (ns % NS_PER_SEC)
  };
}

/* How long it is until that moment of now_monotonic_ns: 0 if it has come. */
static inline uint64_t
time_left (uint64_t until)
{
  const uint64_t now = now_monotonic_ns ();

  return now < until ? until - now : 0;
}

/* Threads that run one function and are to end together.
 *
 * The owner lets them know, in a way of its own, that the function is to
 * return; the group knows how many have not.  Its lock is for that number,
 * and a leaf: a thread takes it when its function has returned, holding no
 * other.  So the owner may start threads under a lock that they take too.
 * While it waits for their end it holds none that they need.
 */
#define THREAD_GROUP_MAX 64

struct thread_group {
  void (*run) (void *opaque);
  void *opaque;

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t ended;         /* all have */
  unsigned started, running;
  pthread_t threads[THREAD_GROUP_MAX]; /* those started */
};

extern void thread_group_init (struct thread_group *g,
                               void (*run) (void *opaque), void *opaque);

/* Start threads until there are n.  Returns 0, or an errno if one could not
 * be started (EAGAIN if that is one more than THREAD_GROUP_MAX); those before
 * it go on.  The owner's calls do not overlap, so it may read "started".
 */
extern int thread_group_start (struct thread_group *g, unsigned n);

/* The threads know that they are to end: wait for it, no longer than
 * timeout_ns.  Returns how many have not ended by then.
 */
extern unsigned thread_group_wait (struct thread_group *g,
                                   uint64_t timeout_ns);

/* The same, however long it takes, and destroy the group. */
extern void thread_group_join (struct thread_group *g);

/* As thread_group_join, but wait no longer than timeout_ns.  Returns how many
 * threads have not ended by then.  If there are any all are detached, and
 * those may come back at any time: the group, and what else they use, must
 * stay as long as the process.
 */
extern unsigned thread_group_end (struct thread_group *g,
                                  uint64_t timeout_ns);

#endif /* CBW_THREADS_H */
