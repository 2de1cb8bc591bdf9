/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of our own in a program that is not, and waits that end: for
 * something that changes, or for threads.
 */

#ifndef CBW_THREADS_H
#define CBW_THREADS_H

#include <pthread.h>
#include <stdbool.h>
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

/* A moment of now_monotonic_ns, as such waits take it. */
static inline struct timespec
cond_until (uint64_t ns)
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
 * What owns threads, X, has four words for their life, in this order:
 *
 *   X_init   makes it; there is no thread yet
 *   X_stop   asks the threads to end, and returns at once; any thread may call
 *            it, more than once
 *   X_join   waits for them until a deadline, and returns whether all have
 *            ended; if not it may be called again, and nothing that they use
 *            may be freed
 *   X_free   frees it, when X_join has returned true
 *
 * How the threads learn that their function is to return is the owner's own
 * affair; the group knows how many have not returned.  Its lock is for that
 * number, and a leaf: a thread takes it when its function has returned,
 * holding no other.  So the owner may start threads under a lock that they
 * take too.  While it waits for their end it holds none that they need.
 */
#define THREAD_GROUP_MAX 64

struct thread_group {
  void (*run) (void *opaque);
  void *opaque;

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t ended;         /* all have, for the moment */
  unsigned started, running;
  unsigned joined;              /* of those started; or left */
  unsigned late;                /* were running when the last join gave up */
  pthread_t threads[THREAD_GROUP_MAX]; /* those started */
};

extern void thread_group_init (struct thread_group *g,
                               void (*run) (void *opaque), void *opaque);

/* Start threads until n have been started.  Returns 0, or an errno if one
 * could not be started (EAGAIN if that is one more than THREAD_GROUP_MAX);
 * those before it continue.  The owner's calls do not overlap, so it may read
 * "started".
 */
extern int thread_group_start (struct thread_group *g, unsigned n);

/* The threads know that they are to end: wait for it until that moment of
 * now_monotonic_ns, and join them.  Returns whether all have ended.  Once time
 * is up it does not wait, so "until" may be 0.
 */
extern bool thread_group_join (struct thread_group *g, uint64_t until);

/* There will be no other join: detach the threads that were not joined.
 * Returns how many had not ended when the last join gave up.  If there are
 * any they may come back at any time: the group, and what else they use, must
 * stay as long as the process.
 */
extern unsigned thread_group_leave (struct thread_group *g);

/* The last join has returned true. */
extern void thread_group_free (struct thread_group *g);

#endif /* CBW_THREADS_H */
