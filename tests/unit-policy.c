/* SPDX-License-Identifier: BSD-3-Clause */

/* What failed copies do by policy, copies with a time limit, and guests that
 * wait for space: each where it races with the others.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "unit.h"
#include "utils/clock.h"

#define K 1024
#define CS (64 * K)
#define CLUSTERS 12
#define SIZE (CLUSTERS * CS)

static struct env env;

static void
start (enum cbw_on_error policy, uint64_t timeout_ns)
{
  env_start (&env, SIZE, CS, 1);
  engine_set_source (&env.engine, &env.source);
  env.s->snap->fixed.options.on_error = policy;
  env.s->snap->fixed.options.timeout_ns = timeout_ns;
}

/* A guest's write that may fail; returns the errno. */
static int
guest (uint64_t offset, uint64_t count)
{
  struct guest_change change;
  const int r = engine_guest_begin (&env.engine, &env.source.image, offset,
                                    count,
                                    GUEST_WRITE, NULL, &change);
  uint64_t i;

  if (r != 0)
    return r;
  for (i = 0; i < count; ++i)
    __atomic_store_n (&env.disk.fake.data[offset + i], 0xaa,
                      __ATOMIC_RELAXED);
  engine_guest_end (&env.engine, &change, false);
  return 0;
}

static void
check_failed (unsigned i, enum cbw_snapshot_state state, int num)
{
  CHECK_EQ (env_state (&env, i), state);
  CHECK_EQ (env.s[i].entry.failed, num != 0);
  CHECK_EQ (env.s[i].entry.error_num, num);
}

/* ---- Policies ---- */

static void
test_guest_write_fails (void)
{
  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, 0);
  env.s->target->fake.fail_writes = ENOSPC;
  CHECK_EQ (guest (2 * CS, 10), ENOSPC);
  env.s->target->fake.fail_writes = EIO;
  CHECK_EQ (guest (3 * CS, 10), EIO);
  check_failed (0, CBW_SNAPSHOT_LIVE, ENOSPC); /* the first */
  CHECK_EQ (env.s->entry.error_offset, 2 * CS);
  CHECK (!env_done (&env, 2) && !bitmap_test (&env.s->settled, 2));
  CHECK_EQ (env.s->entry.held_bytes, 0);
  CHECK (env_view (&env, 0, SIZE) == 0);
  env.s->target->fake.fail_writes = 0;
  CHECK_EQ (guest (2 * CS, 10), 0);
  CHECK (env_done (&env, 2));
  CHECK (env_view (&env, 0, SIZE) == 0);
  env_end (&env);
}

/* Two snapshots: each does what its own policy says, the newer first.  Where
 * that breaks, the older one's copy goes to its own target, which is well.
 */
static void
test_two_policies (void)
{
  start (CBW_ON_ERROR_BREAK_SNAPSHOT, 0);
  env_create (&env, SIZE);
  env.s[1].snap->fixed.options.on_error = CBW_ON_ERROR_BREAK_GUEST_WRITE;
  env.s[1].target->fake.fail_writes = EIO;
  CHECK_EQ (guest (2 * CS, 10), EIO);
  check_failed (0, CBW_SNAPSHOT_LIVE, 0);
  check_failed (1, CBW_SNAPSHOT_LIVE, EIO);
  CHECK (env_view_of (&env, 0, 0, SIZE) == 0);
  CHECK (env_view_of (&env, 1, 0, SIZE) == 0);
  env_end (&env);

  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, 0);
  env_create (&env, SIZE);
  env.s[1].target->fake.fail_writes = EIO;
  CHECK_EQ (guest (2 * CS, 10), 0);
  check_failed (0, CBW_SNAPSHOT_LIVE, 0);
  check_failed (1, CBW_SNAPSHOT_BROKEN, EIO);
  CHECK (env_done (&env, 2));
  CHECK_EQ (guest (3 * CS, 10), 0);
  CHECK (env_view_of (&env, 0, 0, SIZE) == 0);
  CHECK_EQ (env_view_of (&env, 1, 0, SIZE), EIO);
  env_end (&env);
}

/* Its target was lost while it copied: the guest is not made to fail. */
static void
lose_target (void *unused)
{
  struct error e = { .num = ENOENT };

  (void) unused;
  chain_lose_target (env.engine.chain.current, 0, &e);
  env.s->target->fake.fail_writes = EIO;
}

static void
test_broken_in_mid_copy (void)
{
  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, 0);
  hook_set (&env.s->target->fake.amid, lose_target, NULL);
  CHECK_EQ (guest (2 * CS, 10), 0);
  check_failed (0, CBW_SNAPSHOT_BROKEN, ENOENT);
  env_end (&env);
}

/* ---- Time limits ---- */

#define LIMIT (150 * NS_PER_MS)

static _Atomic (bool) blocked;
static _Atomic (unsigned) nr_blocked;

static void
wait_until_released (void)
{
  nr_blocked++;
  while (atomic_load (&blocked))
    usleep (1000);
  nr_blocked--;
}

static void
block (void *unused)
{
  (void) unused;
  wait_until_released ();
}

/* And whoever comes next. */
static void
block_all (void *hook)
{
  hook_set (hook, block_all, hook);
  wait_until_released ();
}

static void
release (void)
{
  atomic_store (&blocked, false);
  while (nr_blocked > 0)
    usleep (1000);
}

static void
limited_guest (int expected)
{
  const uint64_t begin = now_monotonic_ns ();
  uint64_t took;

  CHECK_EQ (guest (2 * CS, 10), expected);
  took = now_monotonic_ns () - begin;
  CHECK (took >= LIMIT && took < LIMIT + 20 * LIMIT);
}

/* Given up after the read: the late data is old. */
static void
test_late_write (void)
{
  start (CBW_ON_ERROR_BREAK_SNAPSHOT, LIMIT);
  blocked = true;
  hook_set (&env.s->target->fake.before, block, NULL);
  limited_guest (0);
  check_failed (0, CBW_SNAPSHOT_BROKEN, ETIMEDOUT);
  release ();
  unit_give_time ();
  CHECK (!bitmap_test (&env.s->done, 2)); /* nobody has it claimed */
  CHECK_EQ (env_view (&env, 0, SIZE), EIO);
  env_end (&env);
}

/* Given up before or in the read: what it reads may be new, and goes. */
static void
test_late_read (void)
{
  struct fake *f = &env.disk.fake;
  unsigned i;

  for (i = 0; i < 3; ++i) {
    start (CBW_ON_ERROR_BREAK_SNAPSHOT, LIMIT);
    blocked = true;
    hook_set (fake_hook (f, i), block, NULL);
    limited_guest (0);
    release ();
    unit_give_time ();
    CHECK_EQ (env.s->target->fake.writes, 0);
    CHECK (!env_done (&env, 2));
    env_end (&env);
  }
}

/* The retry copies at once, in another thread; the late one counts not. */
static void
test_retry_beside_late (void)
{
  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, LIMIT);
  blocked = true;
  hook_set (&env.s->target->fake.before, block, NULL);
  limited_guest (ETIMEDOUT);
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (guest (2 * CS, 10), 0);
  CHECK (bitmap_test (&env.s->done, 2));
  release ();
  unit_give_time ();
  CHECK (bitmap_test (&env.s->done, 2));
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.s->entry.copied_clusters, 1);
  CHECK_EQ (env.s->entry.copied_bytes, CS);
  CHECK_EQ (env.s->entry.held_bytes, CS);
  env_end (&env);
}

/* Late, and a new snapshot has been taken, and the old one dropped. */
static void
test_late_and_dropped (void)
{
  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, LIMIT);
  blocked = true;
  hook_set (&env.s->target->fake.before, block, NULL);
  limited_guest (ETIMEDOUT);
  env_create (&env, SIZE);
  CHECK_EQ (guest (2 * CS, 10), 0);
  CHECK (env_view_of (&env, 0, 0, SIZE) == 0);
  env_drop (&env, 0);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN); /* the worker has it */
  release ();
  while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
    usleep (1000);
  CHECK (env_view_of (&env, 1, 0, SIZE) == 0);
  env_end (&env);
}

/* Every worker is stuck: the next times out all the same, and leaves
 * nothing in the queue.
 */
static void
test_all_workers_stuck (void)
{
  struct deadline_pool *pool = &env.engine.copier.deadline;
  unsigned i;

  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, 20 * NS_PER_MS);
  blocked = true;
  hook_set (&env.s->target->fake.before, block_all,
            &env.s->target->fake.before);
  for (i = 0; nr_blocked < DEADLINE_THREADS_MAX; ++i) {
    CHECK_EQ (guest (2 * CS, 10), ETIMEDOUT);
    CHECK (i < 100 * DEADLINE_THREADS_MAX);
  }
  for (i = 0; i < 5; ++i)
    CHECK_EQ (guest (2 * CS, 10), ETIMEDOUT);
  CHECK_EQ (pool->workers.started, DEADLINE_THREADS_MAX);
  CHECK_EQ (pool->queued, 0);
  CHECK (pool->first == NULL && pool->last == &pool->first);
  hook_set (&env.s->target->fake.before, NULL, NULL);
  release ();
  env.s->snap->fixed.options.timeout_ns = 10 * NS_PER_SEC;
  CHECK_EQ (guest (2 * CS, 10), 0);
  CHECK (env_view (&env, 0, SIZE) == 0);
  env_end (&env);
}

/* ---- Waiting for space ---- */

static pthread_t other;
static _Atomic (int) other_result;

static void *
other_guest (void *unused)
{
  (void) unused;
  atomic_store (&other_result, -1);
  atomic_store (&other_result, guest (2 * CS, 10));
  return NULL;
}

static void
start_stalled (uint64_t stall_ns, enum cbw_on_error policy)
{
  start (policy, 0);
  env.s->snap->fixed.options.stall_ns = stall_ns;
  env.s->target->fake.fail_writes = ENOSPC;
  pthread_create (&other, NULL, other_guest, NULL);
  while (env.s->entry.stalled_until_ns == 0)
    usleep (1000);
  CHECK (env.s->entry.stalled_until_ns > now_realtime_ns ());
}

static void
end_stalled (int expected)
{
  pthread_join (other, NULL);
  CHECK_EQ (other_result, expected);
  CHECK_EQ (env.s->entry.stalled_until_ns, 0);
}

static void
test_stall (void)
{
  /* Room is found. */
  start_stalled (60 * NS_PER_SEC, CBW_ON_ERROR_BREAK_SNAPSHOT);
  CHECK (env_view (&env, 0, SIZE) == 0);
  unit_give_time ();
  CHECK_EQ (other_result, -1);
  env.s->target->fake.fail_writes = 0;
  end_stalled (0);
  check_failed (0, CBW_SNAPSHOT_LIVE, 0);
  CHECK (env_view (&env, 0, SIZE) == 0);
  env_end (&env);

  /* The gate is open: a new snapshot has room. */
  start_stalled (60 * NS_PER_SEC, CBW_ON_ERROR_BREAK_SNAPSHOT);
  env_create (&env, SIZE);
  end_stalled (0);
  CHECK (env_view_of (&env, 0, 0, SIZE) == 0);
  CHECK (env_view_of (&env, 1, 0, SIZE) == 0);
  env_end (&env);

  /* It is dropped. */
  start_stalled (60 * NS_PER_SEC, CBW_ON_ERROR_BREAK_GUEST_WRITE);
  env_drop (&env, 0);
  pthread_join (other, NULL);
  CHECK_EQ (other_result, 0);
  env_end (&env);

  /* It gives up. */
  start_stalled (LIMIT, CBW_ON_ERROR_BREAK_SNAPSHOT);
  end_stalled (0);
  check_failed (0, CBW_SNAPSHOT_BROKEN, ENOSPC);
  env_end (&env);
  start_stalled (LIMIT, CBW_ON_ERROR_BREAK_GUEST_WRITE);
  end_stalled (ENOSPC);
  check_failed (0, CBW_SNAPSHOT_LIVE, ENOSPC);
  env_end (&env);
}

static void
test_quota (void)
{
  start (CBW_ON_ERROR_BREAK_GUEST_WRITE, 0);
  env.s->snap->fixed.options.quota = 2 * CS;
  CHECK_EQ (guest (0, 3 * CS), 0); /* cluster 1 is zero */
  CHECK_EQ (guest (3 * CS, 1), EDQUOT);
  CHECK_EQ (guest (4 * CS, 1), 0);
  CHECK_EQ (env.s->entry.held_bytes, 2 * CS);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 0), 0);
  CHECK_EQ (env.s->entry.held_bytes, CS);
  /* 5 fits, 6 does not: nothing of it counts, however often. */
  CHECK_EQ (guest (5 * CS, 2 * CS), EDQUOT);
  CHECK_EQ (guest (5 * CS, 2 * CS), EDQUOT);
  CHECK_EQ (env.s->entry.held_bytes, CS);
  CHECK_EQ (guest (5 * CS, 1), 0);
  env_end (&env);
}

int
main (void)
{
  unit_start ();
  RUN (test_guest_write_fails);
  RUN (test_two_policies);
  RUN (test_broken_in_mid_copy);
  RUN (test_late_write);
  RUN (test_late_read);
  RUN (test_retry_beside_late);
  RUN (test_late_and_dropped);
  RUN (test_all_workers_stuck);
  RUN (test_stall);
  RUN (test_quota);
  return unit_end ();
}
