/* SPDX-License-Identifier: BSD-3-Clause */

/* Discarding in a snapshot, while others read it or copy to it. */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "unit.h"

#define CS (64 * 1024)
#define CLUSTERS 12
#define SIZE (CLUSTERS * CS)

static struct env env;
static pthread_t other;
static _Atomic (int) other_result;

static void
start (void)
{
  env_start (&env, SIZE, CS, 1);
  engine_set_source (&env.engine, &env.source);
  env.s->snap->fixed.options.on_error = CBW_ON_ERROR_BREAK_SNAPSHOT;
}

static void
discard_all (void *unused)
{
  (void) unused;
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), SIZE, 0), 0);
  env_guest (&env, GUEST_WRITE, 0, SIZE, 0xaa);
}

static void
discard_one (void *unused)
{
  (void) unused;
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 3 * CS), 0);
  env_guest (&env, GUEST_WRITE, 3 * CS, CS, 0xaa);
}

/* Withdrawn between the read of the source, or target, and the end. */
static void
test_discard_in_mid_read (void)
{
  static void (*const discards[]) (void *) = { discard_all, discard_one };
  struct fake *f;
  unsigned i, j, where;
  uint64_t length;

  for (where = 0; where < 2; ++where)
    for (i = 0; i < 3; ++i)
      for (j = 0; j < 2; ++j) {
        start ();
        if (where)
          env_guest (&env, GUEST_WRITE, 0, SIZE, 0x11);
        f = where ? &env.s->target->fake : &env.disk.fake;
        hook_set (fake_hook (f, i), discards[j], NULL);
        CHECK_EQ (env_view (&env, 0, SIZE), EPERM);
        CHECK_EQ (env_view (&env, 3 * CS, 1), EPERM);
        CHECK_EQ (env_view (&env, 0, CS), j == 0 ? EPERM : 0);
        env_end (&env);

        /* Extents: what is gone is a hole of unknown content. */
        start ();
        f = &env.disk.fake;
        hook_set (fake_hook (f, i), discards[j], NULL);
        CHECK_EQ (env_view_extents (&env, 0, SIZE, &length), 0);
        env_end (&env);
      }
}

/* What is punched while the target is asked is not called zero. */
static void
test_discard_in_mid_extents (void)
{
  static void (*const discards[]) (void *) = { discard_all, discard_one };
  uint64_t length, offset;
  unsigned i, skip;

  for (i = 0; i < 2; ++i)
    for (skip = 0; skip < 6; ++skip) {
      start ();
      env_guest (&env, GUEST_WRITE, 0, SIZE, 0x11);
      env.s->target->holes = true;
      hook_set (&env.s->target->fake.in_extent, discards[i], NULL);
      env.s->target->fake.in_extent.skip = (int) skip;
      for (offset = 0; offset < SIZE; offset += length)
        CHECK_EQ (env_view_extents (&env, offset, SIZE - offset, &length), 0);
      env_end (&env);
    }
}

/* A copy is under way there: discard waits, then frees what it wrote. */
static void *
other_discard (void *unused)
{
  (void) unused;
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), 3 * CS, 2 * CS), 0);
  atomic_store (&other_result, 1);
  return NULL;
}

static void
discard_beside (void *unused)
{
  (void) unused;
  atomic_store (&other_result, 0);
  pthread_create (&other, NULL, other_discard, NULL);
  unit_give_time ();
  CHECK_EQ (other_result, 0);
}

static void
test_discard_in_mid_copy (void)
{
  start ();
  hook_set (&env.s->target->fake.amid, discard_beside, NULL);
  env_guest (&env, GUEST_WRITE, 3 * CS, 10, 0xaa);
  pthread_join (other, NULL);
  CHECK (bitmap_test (&env.s->punched, 3));
  CHECK_EQ (env.s->entry.held_bytes, 0);
  CHECK_EQ (env_view (&env, 3 * CS, 1), EPERM);
  CHECK (env_view (&env, 5 * CS, SIZE - 5 * CS) == 0);
  env_end (&env);
}

/* Does anybody see cluster c in the target of j? */
static bool
is_needed (unsigned j, uint64_t c)
{
  unsigned k;
  int i;

  for (i = (int) j; i >= 0; --i) {
    k = (unsigned) i;
    if (env_state (&env, k) == CBW_SNAPSHOT_EMPTY ||
        (k != j && bitmap_test (&env.s[k].done, c)))
      return false;
    if (env_state (&env, k) == CBW_SNAPSHOT_LIVE &&
        bitmap_test (&env.s[k].access, c))
      return true;
  }
  return false;
}

static void
check_all (void)
{
  uint64_t c;
  unsigned j;

  for (j = 0; j < env.nr; ++j) {
    if (env_state (&env, j) == CBW_SNAPSHOT_EMPTY)
      continue;
    for (c = 0; c < CLUSTERS; ++c) {
      if (env_state (&env, j) == CBW_SNAPSHOT_LIVE)
        CHECK_EQ (env_view_of (&env, j, c * CS, CS),
                  bitmap_test (&env.s[j].access, c) ? 0 : EPERM);
      if (bitmap_test (&env.s[j].done, c) && !is_needed (j, c))
        CHECK (bitmap_test (&env.s[j].punched, c));
    }
  }
}

/* TSan looks at each byte that is read. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS 8
#else
#define ROUNDS 40
#endif

/* Random writes, snapshots, discards and drops: views are right, and what
 * nobody needs is given back.
 */
static void
test_discard_random (void)
{
  uint64_t seed = 11, from, to;
  unsigned n, round, j;

  for (round = 0; round < ROUNDS; ++round) {
    start ();
    for (n = 0; n < 25; ++n) {
      from = unit_random (&seed) % CLUSTERS;
      to = from + 1 + unit_random (&seed) % (CLUSTERS - from);
      j = (unsigned) (unit_random (&seed) % env.nr);
      switch (unit_random (&seed) % 8) {
      case 0:
        if (env.nr < 5)
          env_create (&env, SIZE);
        break;
      case 1:
        if (env_state (&env, j) == CBW_SNAPSHOT_LIVE && n > 12)
          env_drop (&env, j);
        break;
      case 2: case 3: case 4:
        discard_clusters (&env.engine, ENV_ID (j), (to - from) * CS, from * CS);
        break;
      default:
        env_guest (&env, GUEST_WRITE, from * CS, (to - from) * CS,
                   (unsigned char) (n | 1));
      }
      check_all ();
    }
    env_end (&env);
  }
}

int
main (void)
{
  unit_start ();
  RUN (test_discard_in_mid_read);
  RUN (test_discard_in_mid_extents);
  RUN (test_discard_in_mid_copy);
  RUN (test_discard_random);
  return unit_end ();
}
