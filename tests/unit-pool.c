/* SPDX-License-Identifier: BSD-3-Clause */

/* The pool of service threads: it grows by those that are stuck, and no
 * further; the surplus rests when they are back.  Time is what pool_look is
 * told.
 */

#include <config.h>

#include <pthread.h>

#include "service/pool.h"
#include "unit.h"
#include "utils/cleanup.h"

#define LATER (POOL_STUCK_AFTER + NS_PER_MS)
#define LONG (100 * NS_PER_SEC)

static struct pool pool;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Under the lock: things to be done, each of which hangs until its tag is let
 * go, and how many of each tag are being done; tags are below 8.
 */
static unsigned queue[256], first, last;
static unsigned busy[8], done;
static bool let_go[8], stop;
static uint64_t began;          /* when the newest was begun */

static void
step (void *opaque, unsigned index)
{
  unsigned tag;

  CHECK (opaque == &pool && index < THREAD_GROUP_MAX);
  LOCK_FOR_SCOPE (&lock);
  while (first == last && !stop)
    pthread_cond_wait (&changed, &lock);
  if (stop)
    return;
  tag = queue[first++];
  busy[tag]++;
  pool_begin (&pool, index, tag);
  began = now_monotonic_ns ();
  pthread_cond_broadcast (&changed);
  while (!let_go[tag])
    pthread_cond_wait (&changed, &lock);
  pool_end (&pool, index);
  busy[tag]--;
  done++;
  pthread_cond_broadcast (&changed);
}

static void
start (unsigned size)
{
  first = last = done = 0;
  memset (busy, 0, sizeof busy);
  memset (let_go, 0, sizeof let_go);
  stop = false;
  pool_init (&pool, size, step, &pool);
  CHECK_EQ (pool_start (&pool), 0);
}

static void
end (void)
{
  pool_stop (&pool);
  {
    LOCK_FOR_SCOPE (&lock);
    stop = true;
    memset (let_go, true, sizeof let_go);
    pthread_cond_broadcast (&changed);
  }
  CHECK (pool_join (&pool, now_monotonic_ns () + LONG));
  pool_free (&pool);
}

static void
give (unsigned tag, unsigned n)
{
  LOCK_FOR_SCOPE (&lock);
  while (n-- > 0)
    queue[last++] = tag;
  pthread_cond_broadcast (&changed);
}

static void
wait_busy (unsigned tag, unsigned n)
{
  LOCK_FOR_SCOPE (&lock);
  while (busy[tag] != n)
    pthread_cond_wait (&changed, &lock);
}

static unsigned
count_busy (unsigned tag)
{
  LOCK_FOR_SCOPE (&lock);
  return busy[tag];
}

/* What is not begun by now is not, for want of threads. */
static unsigned
settled (unsigned tag)
{
  unit_give_time ();
  return count_busy (tag);
}

/* Look when what has been begun has gone on for so long. */
static uint64_t
look_after (uint64_t ns, unsigned waiting)
{
  uint64_t now;

  {
    LOCK_FOR_SCOPE (&lock);
    now = began + ns;
  }
  return pool_look (&pool, now, waiting);
}

static void
let (unsigned tag)
{
  LOCK_FOR_SCOPE (&lock);
  let_go[tag] = true;
  pthread_cond_broadcast (&changed);
  while (busy[tag] > 0)
    pthread_cond_wait (&changed, &lock);
}

/* Threads that are busy, but not for long, are what the pool is for. */
static void
test_busy (void)
{
  start (2);
  give (1, 5);
  wait_busy (1, 2);
  CHECK_EQ (look_after (NS_PER_MS, 3), 0);
  CHECK_EQ (settled (1), 2);
  let (1);
  end ();
}

/* Those that are stuck do not count; nor do those that do what they do. */
static void
test_stuck (void)
{
  start (2);
  give (1, 6);
  give (2, 2);
  wait_busy (1, 2);
  look_after (LATER, 6);
  wait_busy (1, 4);
  CHECK_EQ (settled (1), 4);
  pool_look (&pool, now_monotonic_ns (), 4); /* nobody is stuck as yet */
  CHECK_EQ (settled (1), 4);
  look_after (LATER, 4);
  wait_busy (1, 6);
  look_after (LATER, 2);
  wait_busy (2, 2);
  look_after (LATER, 1);
  CHECK_EQ (pool.active, 9);    /* one for the one that waits */
  end ();
}

/* A thread whose work is as that of one that is stuck is not waited for. */
static void
test_suspect (void)
{
  uint64_t now;

  start (2);
  give (1, 1);
  wait_busy (1, 1);
  now = began + LATER;          /* that one is stuck then, ... */
  while (now_monotonic_ns () < now)
    usleep (1000);
  give (1, 1);
  wait_busy (1, 2);             /* ... and this has just begun */
  give (2, 1);
  pool_look (&pool, now_monotonic_ns (), 1);
  wait_busy (2, 1);
  end ();
}

/* No more threads than there is work for, nor than there may be. */
static void
test_limits (void)
{
  start (8);
  give (1, 9);
  wait_busy (1, 8);
  look_after (LATER, 1);
  wait_busy (1, 9);
  CHECK_EQ (pool.active, 9);
  give (1, THREAD_GROUP_MAX);
  while (count_busy (1) < THREAD_GROUP_MAX) {
    look_after (LATER, THREAD_GROUP_MAX);
    unit_give_time ();
  }
  look_after (LATER, THREAD_GROUP_MAX);
  CHECK_EQ (settled (1), THREAD_GROUP_MAX);
  CHECK_EQ (pool.active, THREAD_GROUP_MAX);
  end ();
}

static void
wait_resting (unsigned n)
{
  unsigned resting;

  do {
    give (7, 1);                /* who comes by sees that it may rest */
    usleep (1000);
    LOCK_FOR_SCOPE (&pool.lock);
    resting = pool.resting;
  } while (resting != n);
}

/* When they are back the surplus rests, and is called before others. */
static void
test_back (void)
{
  start (2);
  give (1, 4);
  wait_busy (1, 2);
  look_after (LATER, 2);
  wait_busy (1, 4);
  let (1);
  let (7);
  pool_look (&pool, now_monotonic_ns (), 0);
  wait_resting (2);
  CHECK_EQ (pool.active, 2);

  give (2, 4);
  wait_busy (2, 2);
  look_after (LATER, 2);
  wait_busy (2, 4);
  CHECK_EQ (pool.group.started, 4);
  CHECK_EQ (pool.resting, 0);
  end ();
}

/* Too many of one kind are hung, after a second, and until they are not. */
static void
test_hung (void)
{
  start (POOL_HUNG_MANY);
  give (3, POOL_HUNG_MANY - 1);
  give (4, 1);
  wait_busy (3, POOL_HUNG_MANY - 1);
  wait_busy (4, 1);
  CHECK_EQ (look_after (POOL_HUNG_AFTER + NS_PER_MS, 0), 0);
  give (3, 1);
  /* Not so late that one which begins just now could be taken for hung. */
  CHECK_EQ (look_after (POOL_STUCK_AFTER + NS_PER_MS, 1), 0);
  wait_busy (3, POOL_HUNG_MANY);
  CHECK_EQ (look_after (POOL_HUNG_AFTER - NS_PER_MS, 0), 0);
  CHECK (!pool_is_hung (&pool, 3));
  CHECK_EQ (look_after (POOL_HUNG_AFTER + NS_PER_MS, 0), 3);
  CHECK (pool_is_hung (&pool, 3));
  CHECK (!pool_is_hung (&pool, 4));
  CHECK (!pool_is_hung (&pool, 0));
  CHECK_EQ (look_after (POOL_HUNG_AFTER + 2 * NS_PER_MS, 0), 0); /* said once */
  CHECK (pool_is_hung (&pool, 3));
  let (3);
  CHECK_EQ (look_after (POOL_HUNG_AFTER + 2 * NS_PER_MS, 0), 0);
  CHECK (!pool_is_hung (&pool, 3));
  end ();
}

/* It ends without those that are stuck. */
static void
test_end (void)
{
  start (2);
  give (1, 1);
  wait_busy (1, 1);
  pool_stop (&pool);
  {
    LOCK_FOR_SCOPE (&lock);
    stop = true;
    pthread_cond_broadcast (&changed);
  }
  CHECK (!pool_join (&pool, now_monotonic_ns () + NS_PER_MS));
  let (1);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_busy);
  RUN (test_stuck);
  RUN (test_suspect);
  RUN (test_limits);
  RUN (test_back);
  RUN (test_hung);
  RUN (test_end);
  return unit_end ();
}
