/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that take a step over and over, some of which may hang.
 *
 * There are "size" threads that are not stuck.  While work is waiting, as many
 * are added as are stuck, until there are THREAD_GROUP_MAX; when those come
 * back the surplus rests, and is called again before another is started.
 *
 * A thread tells what it is busy with by a tag.  It counts as stuck when that
 * takes longer than POOL_STUCK_AFTER, or when another with the same tag is
 * stuck: what one waits for the other will wait for too.
 *
 * When POOL_HUNG_MANY threads have been busy with one tag for longer than
 * POOL_HUNG_AFTER it is hung, until they are fewer: then it is better not to
 * begin with more of it.
 *
 * It is for somebody else to call pool_look several times a second, from one
 * thread.  The lock is a leaf but for the thread group's.
 */

#ifndef CBW_POOL_H
#define CBW_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "utils/clock.h"
#include "utils/threads.h"

#define POOL_STUCK_AFTER (250 * NS_PER_MS)
#define POOL_HUNG_AFTER NS_PER_SEC
#define POOL_HUNG_MANY 24
#define POOL_HUNG_TAGS (THREAD_GROUP_MAX / POOL_HUNG_MANY)

/* What a thread is busy with. */
struct pool_thread {
  _Atomic (uint64_t) since;     /* monotonic ns; 0: with nothing */
  _Atomic (uint64_t) tag;       /* not 0 */
};

struct pool {
  void (*step) (void *opaque, unsigned index);
  void *opaque;
  unsigned size;

  struct thread_group group;    /* started by pool_start and pool_look */
  _Atomic (unsigned) next_index; /* for a thread that begins */
  struct pool_thread threads[THREAD_GROUP_MAX];
  _Atomic (uint64_t) hung[POOL_HUNG_TAGS]; /* tags, or 0 */

  _Atomic (bool) stop;
  _Atomic (unsigned) active;    /* threads that do not rest; changed under the
                                 * lock */
  _Atomic (unsigned) allowed;   /* how many need not rest */
  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t called;
  unsigned resting, calls;      /* threads, and how many of them to wake */
};

/* step() does one thing, or waits a while for something to do; "index" is the
 * thread's own, below THREAD_GROUP_MAX.
 */
extern void pool_init (struct pool *p, unsigned size,
                       void (*step) (void *opaque, unsigned index),
                       void *opaque);

/* Start the first threads.  0 or an errno. */
extern int pool_start (struct pool *p);

/* In a step: it is busy from here to there, which may take long. */
extern void pool_begin (struct pool *p, unsigned index, uint64_t tag);
extern void pool_end (struct pool *p, unsigned index);

/* See what the threads do.  "waiting" is how many things are there to be done
 * that no thread is idle for.  Returns a tag that is hung from now on, or 0.
 */
extern uint64_t pool_look (struct pool *p, uint64_t now, unsigned waiting);

extern bool pool_is_hung (const struct pool *p, uint64_t tag);

/* As in threads.h.  The caller of pool_stop wakes the threads that wait in a
 * step; none is started any more.
 */
extern void pool_stop (struct pool *p);
extern bool pool_join (struct pool *p, uint64_t until);
extern void pool_free (struct pool *p);

#endif /* CBW_POOL_H */
