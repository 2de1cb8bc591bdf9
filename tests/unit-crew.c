/* SPDX-License-Identifier: BSD-3-Clause */

/* The crew: no task waits for another that hangs, threads are used again, and
 * the end does not wait for what is stuck.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "unit.h"
#include "utils/cleanup.h"
#include "utils/crew.h"

#define TASKS 80
#define LONG (100 * NS_PER_SEC)

static struct crew crew;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct task {
  struct crew_task task;
  bool begun, let_go, done;     /* under the lock */
};

static struct task tasks[TASKS];

static void
run (struct crew_task *task, void *owner)
{
  struct task *t = (struct task *) task;

  CHECK (owner == &tasks);
  LOCK_FOR_SCOPE (&lock);
  t->begun = true;
  pthread_cond_broadcast (&changed);
  while (!t->let_go)
    pthread_cond_wait (&changed, &lock);
  t->done = true;
  pthread_cond_broadcast (&changed);
}

static void
give (unsigned i)
{
  tasks[i] = (struct task) { .task.run = run };
  CHECK_EQ (crew_run (&crew, &tasks[i].task), 0);
}

static void
wait_begun (unsigned i)
{
  LOCK_FOR_SCOPE (&lock);
  while (!tasks[i].begun)
    pthread_cond_wait (&changed, &lock);
}

static void
let (unsigned i)
{
  LOCK_FOR_SCOPE (&lock);
  tasks[i].let_go = true;
  pthread_cond_broadcast (&changed);
  while (!tasks[i].done)
    pthread_cond_wait (&changed, &lock);
}

static void
wait_idle (unsigned n)
{
  unsigned idle;

  do {
    usleep (1000);
    LOCK_FOR_SCOPE (&crew.lock);
    idle = crew.idle;
  } while (idle != n);
}

static void
end (void)
{
  crew_stop (&crew);
  CHECK (crew_join (&crew, now_monotonic_ns () + LONG));
  crew_free (&crew);
}

/* However many hang, the next one runs. */
static void
test_hang (void)
{
  unsigned i;

  crew_init (&crew, &tasks);
  for (i = 0; i < 20; ++i) {
    give (i);
    wait_begun (i);
  }
  CHECK_EQ (crew.threads.started, 20);
  for (i = 0; i < 20; ++i)
    let (i);
  end ();
}

static void
test_used_again (void)
{
  unsigned i;

  crew_init (&crew, &tasks);
  for (i = 0; i < 10; ++i) {
    give (i);
    wait_begun (i);
    let (i);
    wait_idle (1);
  }
  CHECK_EQ (crew.threads.started, 1);
  give (0);
  give (1);                     /* the one that is idle has one already */
  wait_begun (0);
  wait_begun (1);
  CHECK_EQ (crew.threads.started, 2);
  let (0);
  let (1);
  end ();
}

/* More than there can be threads: the rest wait in order. */
static void
test_many (void)
{
  unsigned i;

  crew_init (&crew, &tasks);
  for (i = 0; i < TASKS; ++i)
    give (i);
  for (i = 0; i < THREAD_GROUP_MAX; ++i)
    wait_begun (i);
  unit_give_time ();
  for (; i < TASKS; ++i) {
    pthread_mutex_lock (&lock);
    CHECK (!tasks[i].begun);
    pthread_mutex_unlock (&lock);
    let (i - THREAD_GROUP_MAX);
    wait_begun (i);
  }
  for (i = TASKS - THREAD_GROUP_MAX; i < TASKS; ++i)
    let (i);
  CHECK_EQ (crew.threads.started, THREAD_GROUP_MAX);
  end ();
}

/* What was given before it is stopped is done, nothing is later; what hangs is
 * not waited for.
 */
static void
test_end (void)
{
  struct task late = { .task.run = run };
  unsigned i;

  crew_init (&crew, &tasks);
  for (i = 0; i < THREAD_GROUP_MAX + 1; ++i)
    give (i);
  for (i = 0; i < THREAD_GROUP_MAX; ++i)
    wait_begun (i);
  CHECK (!crew_is_stopping (&crew));
  crew_stop (&crew);
  CHECK (crew_is_stopping (&crew));
  CHECK_EQ (crew_run (&crew, &late.task), ESHUTDOWN);
  for (i = 1; i < THREAD_GROUP_MAX + 1; ++i)
    let (i);
  CHECK (!crew_join (&crew, now_monotonic_ns () + NS_PER_MS));
  let (0);
  end ();
  CHECK (!late.begun);
}

int
main (void)
{
  unit_start ();
  RUN (test_hang);
  RUN (test_used_again);
  RUN (test_many);
  RUN (test_end);
  return unit_end ();
}
