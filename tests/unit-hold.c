/* SPDX-License-Identifier: BSD-3-Clause */

/* The cut in two steps: the gate is held in one thread, and the snapshot made
 * live in another, or not, and guests continue in any case.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "unit.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/threads.h"

#define CS 4096
#define SIZE (16 * CS)
#define LONG (60 * NS_PER_SEC)
#define CLIENT 0x800003u        /* a tag */

static struct env env;
static struct hold *const hold = &env.engine.hold;

/* ---- What others do meanwhile ---- */

static _Atomic (bool) passed;

static void *
guest_thread (void *unused)
{
  (void) unused;
  env_guest (&env, GUEST_WRITE, 2 * CS, 100, 0xaa);
  atomic_store (&passed, true);
  return NULL;
}

/* A guest that comes to the closed gate. */
static pthread_t
start_guest (void)
{
  pthread_t thread;

  atomic_store (&passed, false);
  CHECK (pthread_create (&thread, NULL, guest_thread, NULL) == 0);
  unit_give_time ();
  CHECK (!atomic_load (&passed));
  return thread;
}

static void
guest_passes (void)
{
  env_guest (&env, GUEST_WRITE, 5 * CS, 100, 0xbb);
}

/* ---- The two steps ---- */

static int
begin (uint64_t lease_ns, uint64_t *number, struct error *e)
{
  LOCK_FOR_SCOPE (&env.engine.control);

  return hold_begin (hold, NS_PER_SEC, lease_ns, CLIENT, number, e);
}

static uint64_t
hold_for (uint64_t lease_ns)
{
  uint64_t number;
  struct error e;

  CHECK_EQ (begin (lease_ns, &number, &e), 0);
  return number;
}

static int
commit (uint64_t number, unsigned i, struct error *e)
{
  LOCK_FOR_SCOPE (&env.engine.control);
  uint64_t held_ns;

  return env_commit (&env.engine, number, env.s[i].snap, &held_ns, e);
}

/* The snapshot shows the disk as it is now. */
static void
commit_now (uint64_t number, unsigned i)
{
  struct error e;

  memcpy (env.s[i].old, env.disk.fake.data, SIZE);
  CHECK_EQ (commit (number, i, &e), 0);
  CHECK_EQ (env_state (&env, i), CBW_SNAPSHOT_LIVE);
}

/* It is not taken, and no guest copies for it. */
static void
commit_refused (uint64_t number, unsigned i)
{
  struct error e;

  CHECK_EQ (commit (number, i, &e), -1);
  CHECK_ERROR (&e, ESTALE, "not held any more");
  CHECK_EQ (env_state (&env, i), CBW_SNAPSHOT_RESERVED);
  CHECK (env.engine.chain.current == NULL ||
         chain_newest (env.engine.chain.current) != env.s[i].snap);
}

static unsigned
prepare (void)
{
  return env_prepare (&env, SIZE, CBW_SNAPSHOT_RESERVED);
}

static void
start (void)
{
  env_start_bare (&env, SIZE, CS, 1);
}

static void
end (void)
{
  unsigned i;

  for (i = 0; i < env.nr; ++i)
    snapshot_unref (env.s[i].snap);
  env_end (&env);
}

/* ---- Tests ---- */

struct held {
  uint64_t number, lease_ns;
};

static void *
hold_thread (void *opaque)
{
  struct held *held = opaque;

  held->number = hold_for (held->lease_ns);
  return NULL;
}

/* One thread begins the hold, and has ended when another commits. */
static void
test_two_threads (void)
{
  struct held held = { .lease_ns = LONG };
  pthread_t holder, guest;
  unsigned i;

  start ();
  i = prepare ();
  guest_passes ();
  CHECK (pthread_create (&holder, NULL, hold_thread, &held) == 0);
  pthread_join (holder, NULL);
  guest = start_guest ();
  commit_now (held.number, i);
  pthread_join (guest, NULL);
  CHECK (env_done (&env, 2));
  CHECK (!env_done (&env, 5));
  CHECK (env_view (&env, 0, SIZE) == 0);
  end ();
}

/* A guest waits until the lease is over, and no longer.  Then it is too
 * late.
 */
static void
test_lease_over (void)
{
  const uint64_t lease = NS_PER_SEC / 2;
  uint64_t number, since;
  pthread_t guest;
  unsigned i;

  start ();
  i = prepare ();
  since = now_monotonic_ns ();
  number = hold_for (lease);
  guest = start_guest ();
  pthread_join (guest, NULL);
  CHECK (now_monotonic_ns () - since >= lease);
  CHECK (now_monotonic_ns () - since < LONG / 2);
  commit_refused (number, i);
  hold_end (hold, number);
  guest_passes ();
  CHECK (!env_done (&env, 2));
  end ();
}

/* The same where no guest has waited: none has changed anything, but that is
 * not what a commit relies on.
 */
static void
test_lease_over_alone (void)
{
  uint64_t number;
  unsigned i;

  start ();
  i = prepare ();
  number = hold_for (NS_PER_MS);
  unit_give_time ();
  commit_refused (number, i);
  guest_passes ();
  commit_now (hold_for (LONG), i);
  end ();
}

/* It is over while the check runs, which takes the commit's time. */
static void
let_lease_end (void *unused)
{
  (void) unused;
  while (gate_is_closed (&env.engine.gate))
    usleep (200);
  guest_passes ();
}

static void
test_lease_over_in_check (void)
{
  struct inflight *f = &env.engine.inflight;
  struct cbw_inflight *record;
  uint64_t number;
  unsigned i;

  start ();
  env_buffer (&env, CBW_CELLS_MIN);
  inflight_attach (f, &env.segment.map, false, false);
  CHECK_EQ (inflight_begin (f, 3 * CS, 10, &record), 0);
  inflight_end (f, record, EIO);
  i = prepare ();
  hook_set (&env.disk.fake.before, let_lease_end, NULL);
  number = hold_for (NS_PER_SEC / 2);
  commit_refused (number, i);
  CHECK_EQ (env.disk.fake.reads, 1);
  end ();
}

/* Its holder gives it up, or is given up, while a guest waits. */
static void
test_end (void)
{
  uint64_t number, found;
  uint32_t holder;
  pthread_t guest;
  unsigned i;

  start ();
  i = prepare ();
  CHECK (!hold_of_client (hold, &found, &holder));
  number = hold_for (LONG);
  guest = start_guest ();
  CHECK (hold_of_client (hold, &found, &holder));
  CHECK_EQ (found, number);
  CHECK_EQ (holder, CLIENT);
  hold_end (hold, number);
  pthread_join (guest, NULL);
  CHECK (!hold_of_client (hold, &found, &holder));
  commit_refused (number, i);
  end ();
}

/* A commit is under way: nobody ends the hold, and it is not made twice. */
static void
test_committing (void)
{
  const uint64_t lease = NS_PER_SEC / 2;
  uint64_t number, found;
  uint32_t holder;
  pthread_t guest;
  struct error e;

  start ();
  number = hold_for (lease);
  guest = start_guest ();
  CHECK_EQ (hold_commit (hold, number, &e), 0);
  CHECK_EQ (hold_commit (hold, number, &e), -1);
  CHECK_ERROR (&e, ESTALE, "not held any more");
  CHECK (!hold_of_client (hold, &found, &holder));
  hold_end (hold, number);
  hold_stop (hold);
  while (time_left (hold->since + lease + 100 * NS_PER_MS) > 0)
    unit_give_time ();
  CHECK (!atomic_load (&passed));
  CHECK (hold_committed (hold) >= lease);
  pthread_join (guest, NULL);
  end ();
}

static void
test_commit_twice (void)
{
  uint64_t number;
  unsigned i, j;

  start ();
  i = prepare ();
  j = prepare ();
  number = hold_for (LONG);
  commit_now (number, i);
  commit_refused (number, j);
  guest_passes ();
  commit_now (hold_for (LONG), j);
  end ();
}

/* A commit that was meant for an earlier hold. */
static void
test_earlier_number (void)
{
  uint64_t first, second;
  pthread_t guest;
  unsigned i, j;

  start ();
  i = prepare ();
  j = prepare ();
  first = hold_for (LONG);
  hold_end (hold, first);
  guest_passes ();
  second = hold_for (LONG);
  commit_refused (first, i);
  hold_end (hold, first);
  guest = start_guest ();       /* it is held as before */
  commit_now (second, j);
  pthread_join (guest, NULL);
  end ();
}

/* Others are refused at once, and nothing has changed for them; nor do they
 * keep the lock that the commit needs.
 */
static void
test_held_already (void)
{
  uint64_t number, other, held_ns;
  struct error e;
  unsigned i, j;

  start ();
  env_create (&env, SIZE);
  i = prepare ();
  j = prepare ();
  number = hold_for (LONG);
  CHECK_EQ (begin (LONG, &other, &e), -1);
  CHECK_ERROR (&e, EBUSY, "held for another snapshot");
  {
    LOCK_FOR_SCOPE (&env.engine.control);
    CHECK_EQ (env_cut (&env.engine, env.s[j].snap, &held_ns, &e), -1);
  }
  CHECK_ERROR (&e, EBUSY, "held for another snapshot");
  CHECK_EQ (drop_snapshot (&env.engine, &env.segment, ENV_ID (0), false, 0, &e), -1);
  CHECK_ERROR (&e, EBUSY, "held for another snapshot");
  drop_orphans (&env.engine, &env.segment, NULL, NULL);
  release_complete (&env.engine, NS_PER_MS);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_LIVE);
  CHECK_EQ (env_state (&env, j), CBW_SNAPSHOT_RESERVED);
  commit_now (number, i);
  CHECK_EQ (drop_snapshot (&env.engine, &env.segment, ENV_ID (0), false, 0, &e), 0);
  env.s[0].snap = NULL;
  end ();
}

/* One whose lease is over keeps nobody out. */
static void
test_held_after_lease (void)
{
  unsigned i;

  start ();
  i = prepare ();
  hold_for (NS_PER_MS);
  unit_give_time ();
  commit_now (hold_for (LONG), i);
  end ();
}

/* A change does not end: the gate is left open, and the next hold works. */
static void
test_no_drain (void)
{
  struct guest_change change;
  uint64_t number;
  struct error e;
  unsigned i;

  start ();
  i = prepare ();
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, CS, CS, GUEST_WRITE,
                                NULL, &change), 0);
  CHECK_EQ (hold_begin (hold, 20 * NS_PER_MS, LONG, CLIENT, &number, &e), -1);
  CHECK_ERROR (&e, EBUSY, "did not end in time");
  guest_passes ();
  CHECK_EQ (hold_begin (hold, 0, LONG, CLIENT, &number, &e), -1);
  CHECK_ERROR (&e, EBUSY, "did not end in time");
  guest_passes ();
  commit_refused (number, i);
  engine_guest_end (&env.engine, &change, false);
  commit_now (hold_for (LONG), i);
  end ();
}

/* The server ends while a client holds guests; the last of them waits. */
static void
test_stop (void)
{
  uint64_t number;
  pthread_t guest;
  struct error e;
  unsigned i;

  start ();
  i = prepare ();
  number = hold_for (LONG);
  guest = start_guest ();
  engine_stop (&env.engine);
  pthread_join (guest, NULL);
  commit_refused (number, i);
  CHECK_EQ (begin (LONG, &number, &e), -1);
  CHECK_ERROR (&e, ESHUTDOWN, "is ending");
  end ();
}

static void *
refused_thread (void *opaque)
{
  struct error *e = opaque;
  uint64_t number;

  CHECK_EQ (begin (LONG, &number, e), -1);
  return NULL;
}

/* The same while guests' changes drain. */
static void
test_stop_closing (void)
{
  struct guest_change change;
  pthread_t holder;
  struct error e;

  start ();
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, CS, CS, GUEST_WRITE,
                                NULL, &change), 0);
  CHECK (pthread_create (&holder, NULL, refused_thread, &e) == 0);
  while (!atomic_load (&env.engine.gate.closed))
    usleep (50);
  engine_stop (&env.engine);
  engine_guest_end (&env.engine, &change, false);
  pthread_join (holder, NULL);
  CHECK_ERROR (&e, ESHUTDOWN, "is ending");
  guest_passes ();
  end ();
}

/* Nobody ends the hold before the engine is destroyed. */
static void
test_stop_held (void)
{
  start ();
  hold_for (LONG);
  end ();
}

/* Guests, holds and their ends at random: what the view shows is what was
 * there at the commit.
 */
#define GUESTS 3
#define ROUNDS 40

static _Atomic (bool) stop;

static void *
busy_guest (void *opaque)
{
  uint64_t seed = (uintptr_t) opaque;

  while (!atomic_load (&stop))
    env_guest (&env, GUEST_WRITE, unit_random (&seed) % (SIZE - 100), 100,
               (unsigned char) seed);
  return NULL;
}

static void
test_random (void)
{
  uint64_t seed = 1, number, lease, held_ns;
  pthread_t guests[GUESTS];
  unsigned n, taken = 0, i, j;
  struct error e;

  for (n = 0; n < ROUNDS; ++n) {
    start ();
    i = prepare ();
    atomic_store (&stop, false);
    for (j = 0; j < GUESTS; ++j)
      CHECK (pthread_create (&guests[j], NULL, busy_guest,
                             (void *) (uintptr_t) (n * GUESTS + j)) == 0);
    lease = unit_random (&seed) % 2 ? LONG : 2 * NS_PER_MS;
    if (begin (lease, &number, &e) == 0) {
      if (lease == LONG)
        memcpy (env.s[i].old, env.disk.fake.data, SIZE); /* nobody writes */
      else
        usleep ((unsigned) (unit_random (&seed) % 4000));
      if (unit_random (&seed) % 4 == 0)
        hold_end (hold, number);
      LOCK_FOR_SCOPE (&env.engine.control);
      if (lease != LONG)
        env_commit (&env.engine, number, env.s[i].snap, &held_ns, &e);
      else if (env_commit (&env.engine, number, env.s[i].snap, &held_ns, &e) == 0) {
        ++taken;
        CHECK (env_view (&env, 0, SIZE) == 0);
      }
    }
    atomic_store (&stop, true);
    for (j = 0; j < GUESTS; ++j)
      pthread_join (guests[j], NULL);
    end ();
  }
  CHECK (taken > 0);
}

int
main (void)
{
  unit_start ();
  RUN (test_two_threads);
  RUN (test_lease_over);
  RUN (test_lease_over_alone);
  RUN (test_lease_over_in_check);
  RUN (test_end);
  RUN (test_committing);
  RUN (test_commit_twice);
  RUN (test_earlier_number);
  RUN (test_held_already);
  RUN (test_held_after_lease);
  RUN (test_no_drain);
  RUN (test_stop);
  RUN (test_stop_closing);
  RUN (test_stop_held);
  RUN (test_random);
  return unit_end ();
}
