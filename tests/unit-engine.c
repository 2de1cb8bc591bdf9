/* SPDX-License-Identifier: BSD-3-Clause */

/* Guests and readers in many threads, at random, in one process: what the
 * other tests do step by step, in all the orders that come.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "unit.h"

#define K 1024
#define CS (4 * K)
#define CLUSTERS 48
#define SIZE (CLUSTERS * CS - 1234)
#define GUESTS 4
#define READERS 3
#define ROUNDS 30
#define CHANGES 60              /* per guest and round */

static struct env env;
static _Atomic (unsigned) guests_running;

/* A guest changes only every fourth byte-run of 100, so that guests share
 * every cluster but no byte.
 */
static void *
guest (void *opaque)
{
  const unsigned me = *(unsigned *) opaque % GUESTS;
  uint64_t seed = *(unsigned *) opaque, slot, offset;
  unsigned n;

  for (n = 0; n < CHANGES; ++n) {
    slot = unit_random (&seed) % (SIZE / (100 * GUESTS));
    offset = (slot * GUESTS + me) * 100;
    env_guest (&env, unit_random (&seed) % 3, offset,
               1 + unit_random (&seed) % 100, (unsigned char) (0x80 + me));
  }
  atomic_fetch_sub (&guests_running, 1);
  return NULL;
}

static void *
reader (void *opaque)
{
  uint64_t seed = *(unsigned *) opaque, offset, count, length;
  int r;

  do {
    offset = unit_random (&seed) % SIZE;
    count = 1 + unit_random (&seed) % (SIZE - offset);
    if (unit_random (&seed) % 8 == 0)
      r = env_view_extents (&env, offset, count, &length);
    else
      r = env_view (&env, offset, count);
    /* Right, or refused because it is broken. */
    CHECK (r == 0 || (r == EIO && env.s->entry.state == CBW_SNAPSHOT_BROKEN));
  } while (atomic_load (&guests_running) > 0);
  return NULL;
}

static void
fail_target (void *unused)
{
  (void) unused;
  atomic_store (&env.s->target->fake.fail_writes, ENOSPC);
}

static void
run_round (unsigned seed, bool break_it)
{
  pthread_t threads[GUESTS + READERS];
  unsigned seeds[GUESTS + READERS], i;
  uint64_t c;

  env_start (&env, SIZE, CS, seed);
  if (break_it) {
    hook_set (&env.s->target->fake.amid, fail_target, NULL);
    atomic_store (&env.s->target->fake.amid.skip, 5 + seed % 10);
  }
  atomic_store (&guests_running, GUESTS);
  for (i = 0; i < GUESTS + READERS; ++i) {
    seeds[i] = seed * 64 + i;
    pthread_create (&threads[i], NULL, i < GUESTS ? guest : reader,
                    &seeds[i]);
  }
  for (i = 0; i < GUESTS + READERS; ++i)
    pthread_join (threads[i], NULL);

  CHECK_EQ (env_view (&env, 0, SIZE), break_it ? EIO : 0);
  for (c = 0; c < CLUSTERS; ++c)
    env_done (&env, c);
  CHECK_EQ (bitmap_count (&env.s->snap->view.done, 0, CLUSTERS),
            env.s->entry.copied_clusters);
  env_end (&env);
}

static void
test_random (void)
{
  unsigned i;

  for (i = 0; i < ROUNDS; ++i)
    run_round (i * GUESTS, false);
}

/* The same with a target that fails at some moment: no reader may get a
 * single new byte.
 */
static void
test_random_broken (void)
{
  unsigned i;

  for (i = 0; i < ROUNDS; ++i)
    run_round (i * GUESTS, true);
}

/* However many want it at once, each cluster is copied once. */
static pthread_barrier_t barrier;

static void *
first_touch (void *opaque)
{
  uint64_t c;

  (void) opaque;
  for (c = 0; c < CLUSTERS; ++c) {
    pthread_barrier_wait (&barrier);
    env_guest (&env, GUEST_WRITE, c * CS, 1, 0xaa);
  }
  return NULL;
}

static void
test_copied_once (void)
{
  pthread_t threads[GUESTS];
  unsigned i;

  env_start (&env, SIZE, CS, 5);
  pthread_barrier_init (&barrier, NULL, GUESTS);
  for (i = 0; i < GUESTS; ++i)
    pthread_create (&threads[i], NULL, first_touch, NULL);
  for (i = 0; i < GUESTS; ++i)
    pthread_join (threads[i], NULL);
  pthread_barrier_destroy (&barrier);
  CHECK_EQ (env.disk.fake.reads, CLUSTERS);
  CHECK_EQ (env.s->entry.copied_clusters, CLUSTERS);
  CHECK (env_view (&env, 0, SIZE) == 0);
  env_end (&env);
}

int
main (void)
{
  unit_start ();
  RUN (test_random);
  RUN (test_random_broken);
  RUN (test_copied_once);
  return unit_end ();
}
