/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that end together, or not all of them. */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "unit.h"
#include "utils/cleanup.h"
#include "utils/threads.h"

/* Never, for a test. */
#define LONG (1000 * NS_PER_SEC)

static struct thread_group group;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool stop, hang;         /* hang: one does not see that it is to stop */
static unsigned begun;
static pthread_t hanging;

static void
run (void *opaque)
{
  bool me;

  CHECK (opaque == &group);
  LOCK_FOR_SCOPE (&lock);
  me = begun++ == 0;
  if (me)
    hanging = pthread_self ();
  while (!stop || (me && hang))
    pthread_cond_wait (&changed, &lock);
}

static void
set (bool *what, bool value)
{
  LOCK_FOR_SCOPE (&lock);
  *what = value;
  pthread_cond_broadcast (&changed);
}

/* As an owner does, with a lock that the threads take. */
static int
start (unsigned n)
{
  LOCK_FOR_SCOPE (&lock);
  return thread_group_start (&group, n);
}

static void
init (void)
{
  stop = hang = false;
  begun = 0;
  thread_group_init (&group, run, &group);
}

static void
wait_running (unsigned n)
{
  for (;;) {
    {
      LOCK_FOR_SCOPE (&group.lock);
      if (group.running == n)
        return;
    }
    usleep (1000);
  }
}

/* A long time from now. */
static uint64_t
then (void)
{
  return now_monotonic_ns () + LONG;
}

static void
end (void)
{
  set (&stop, true);
  CHECK (thread_group_join (&group, then ()));
  CHECK_EQ (thread_group_leave (&group), 0);
  thread_group_free (&group);
}

static void
test_none (void)
{
  init ();
  CHECK (thread_group_join (&group, 0));
  CHECK (thread_group_join (&group, then ()));
  end ();
}

static void
test_all_end (void)
{
  init ();
  CHECK (start (1) == 0);
  CHECK (start (3) == 0);
  CHECK_EQ (group.started, 3);
  CHECK (start (2) == 0);       /* there are */
  CHECK_EQ (group.started, 3);
  end ();
  CHECK_EQ (begun, 3);
}

static void *
stop_late (void *unused)
{
  (void) unused;
  unit_give_time ();
  set (&stop, true);
  return NULL;
}

/* They are waited for. */
static void
test_late (void)
{
  pthread_t other;

  init ();
  CHECK (start (3) == 0);
  CHECK (pthread_create (&other, NULL, stop_late, NULL) == 0);
  CHECK (thread_group_join (&group, then ()));
  CHECK (stop);
  CHECK_EQ (group.running, 0);
  pthread_join (other, NULL);
  end ();
}

/* Not all have ended when time is up, but later. */
static void
test_join_again (void)
{
  init ();
  hang = true;
  CHECK (start (3) == 0);
  set (&stop, true);
  CHECK (!thread_group_join (&group, now_monotonic_ns () + NS_PER_MS));
  set (&hang, false);
  CHECK (thread_group_join (&group, then ()));
  CHECK (start (4) == 0);       /* one that comes late */
  end ();
  CHECK_EQ (begun, 4);
}

static bool
is_detached (pthread_t thread)
{
  pthread_attr_t attr;
  int state;

  CHECK (pthread_getattr_np (thread, &attr) == 0);
  CHECK (pthread_attr_getdetachstate (&attr, &state) == 0);
  pthread_attr_destroy (&attr);
  return state == PTHREAD_CREATE_DETACHED;
}

/* One is left when time is up, and may come back. */
static void
test_stuck (void)
{
  const uint64_t limit = 100 * NS_PER_MS;
  uint64_t since;

  init ();
  hang = true;
  CHECK (start (3) == 0);
  set (&stop, true);
  wait_running (1);
  CHECK (!is_detached (hanging));
  since = now_monotonic_ns ();
  CHECK (!thread_group_join (&group, since + limit));
  CHECK (now_monotonic_ns () - since >= limit);
  CHECK (!is_detached (hanging));
  CHECK_EQ (thread_group_leave (&group), 1);
  CHECK (is_detached (hanging));
  set (&hang, false);
  wait_running (0);
}

/* None has ended when time is up. */
static void
test_all_stuck (void)
{
  init ();
  CHECK (start (3) == 0);
  CHECK (!thread_group_join (&group, 0));
  CHECK_EQ (thread_group_leave (&group), 3);
  set (&stop, true);
  wait_running (0);
}

/* Those that could be started do their work, and more are later. */
static void
test_start_fails (void)
{
  pthread_attr_t good, bad;

  CHECK (pthread_getattr_default_np (&good) == 0);
  CHECK (pthread_getattr_default_np (&bad) == 0);
  CHECK (pthread_attr_setstacksize (&bad, SIZE_MAX / 4 + 1) == 0);
  init ();
  CHECK (pthread_setattr_default_np (&bad) == 0);
  CHECK_EQ (start (1), EAGAIN);
  CHECK_EQ (group.started, 0);
  CHECK (pthread_setattr_default_np (&good) == 0);
  CHECK (start (1) == 0);
  CHECK (pthread_setattr_default_np (&bad) == 0);
  CHECK_EQ (start (3), EAGAIN);
  CHECK_EQ (group.started, 1);
  CHECK (pthread_setattr_default_np (&good) == 0);
  CHECK (start (3) == 0);
  CHECK_EQ (group.started, 3);
  end ();
  CHECK_EQ (begun, 3);
  pthread_attr_destroy (&good);
  pthread_attr_destroy (&bad);
}

static void
test_too_many (void)
{
  init ();
  CHECK_EQ (start (THREAD_GROUP_MAX + 1), EAGAIN);
  CHECK_EQ (group.started, THREAD_GROUP_MAX);
  end ();
  CHECK_EQ (begun, THREAD_GROUP_MAX);
}

int
main (void)
{
  unit_start ();
  RUN (test_none);
  RUN (test_all_end);
  RUN (test_late);
  RUN (test_join_again);
  RUN (test_stuck);
  RUN (test_all_stuck);
  RUN (test_start_fails);
  RUN (test_too_many);
  return unit_end ();
}
