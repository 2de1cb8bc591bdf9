/* SPDX-License-Identifier: BSD-3-Clause */

/* Several snapshots, one copy: invariant 7 of the engine.  What the chain
 * answers is compared with what the invariant says, word for word, for all
 * small chains there are.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "unit.h"
#include "utils/rounding.h"

#define CS 4096
#define NR_MAX 4                /* snapshots of the exhaustive tests */

/* Not all of them where each takes twenty times as long. */
#ifdef __SANITIZE_THREAD__
#define STRIDE 13
#define WALKS 4
#elif defined __SANITIZE_ADDRESS__
#define STRIDE 3
#define WALKS 30
#else
#define STRIDE 1
#define WALKS 30
#endif
#define DROP_STRIDE (17 * STRIDE) /* each starts threads, and ends them */

static struct env env;

/* ---- What the invariant says ---- */

static uint64_t
clusters (unsigned j)
{
  return (env.s[j].entry.size + CS - 1) / CS;
}

static bool
done (unsigned j, uint64_t c)
{
  return c < clusters (j) && bitmap_test (&env.s[j].done, c);
}

static bool
live (unsigned j)
{
  return env_state (&env, j) == CBW_SNAPSHOT_LIVE;
}

static bool
backup (unsigned j)
{
  return snapshot_is_backup (env.s[j].snap);
}

/* Who holds cluster c for k; env.nr is the source. */
static unsigned
oracle_holder (unsigned k, uint64_t c)
{
  unsigned j;

  for (j = k; j < env.nr && !(done (j, c) && (j == k || !backup (j))); ++j)
    ;
  return j;
}

static bool
oracle_needs (unsigned k, uint64_t c)
{
  return live (k) && c < clusters (k) && oracle_holder (k, c) == env.nr;
}

static bool
oracle_needed (uint64_t c)
{
  unsigned k;

  for (k = 0; k < env.nr; ++k)
    if (oracle_needs (k, c))
      return true;
  return false;
}

/* Does anybody else read cluster c in the target of j? */
static bool
oracle_useful (unsigned j, uint64_t c)
{
  unsigned k;

  for (k = 0; k < j; ++k)
    if (live (k) && c < clusters (k) && oracle_holder (k, c) == j)
      return true;
  return false;
}

/* ---- All small chains ---- */

/* Sizes in clusters, oldest first: the disk only grows. */
static const uint64_t sizes[][NR_MAX] = {
  { 3, 3, 3, 3 }, { 1, 2, 2, 3 }, { 2, 2, 3, 3 },
};

static const enum cbw_snapshot_state states[] = {
  CBW_SNAPSHOT_LIVE, CBW_SNAPSHOT_BROKEN, CBW_SNAPSHOT_HIDDEN,
};

static uint32_t
state_of (unsigned combination, unsigned j)
{
  while (j-- > 0)
    combination /= 3;
  return states[combination % 3];
}

static void
put_bits (const uint64_t *size, unsigned bits, unsigned nr_clusters)
{
  unsigned j, c;

  for (j = 0; j < env.nr; ++j)
    for (c = 0; c < nr_clusters && c < size[j]; ++c)
      if (bits >> (j * nr_clusters + c) & 1)
        bitmap_set (&env.s[j].done, c, c + 1);
      else
        bitmap_clear (&env.s[j].done, c, c + 1);
}

static void
check_holders (const struct chain *chain)
{
  uint64_t c, end, run, i;
  unsigned k;

  for (k = 0; k < env.nr; ++k)
    for (c = 0; c < clusters (k); ++c)
      for (end = c + 1; end <= clusters (k); ++end) {
        CHECK_EQ (view_holder (&chain->views, k, c, end, &run),
                  oracle_holder (k, c));
        CHECK (run > c && run <= end);
        for (i = c; i < run; ++i)
          CHECK_EQ (oracle_holder (k, i), oracle_holder (k, c));
      }
}

/* The first run; and all of the rest, call by call. */
static void
check_needed (const struct chain *chain)
{
  const uint64_t all = clusters (env.nr - 1);
  struct chain_need need;
  uint64_t start, c;
  unsigned k, j;

  for (start = 0; start < all; ++start) {
    for (c = start; chain_next_needed (chain, c, all, &need); c = need.end) {
      CHECK (need.start >= c && need.end > need.start && need.end <= all);
      for (; c < need.start; ++c)
        CHECK (!oracle_needed (c));
      for (k = 0; env.s[k].snap != need.by; ++k)
        ;
      for (; c < need.end; ++c) {
        CHECK (oracle_needs (k, c));
        for (j = k + 1; j < env.nr; ++j) /* it is the newest */
          CHECK (!oracle_needs (j, c));
      }
    }
    for (; c < all; ++c)
      CHECK (!oracle_needed (c));
  }
}

/* Who reads a cluster in the target of j, if it is done there. */
static void
check_readers (const struct chain *chain)
{
  struct snapshot *by;
  uint64_t c, run, i;
  unsigned j, k;
  int newest;

  for (j = 0; j < env.nr; ++j)
    for (c = 0; c < clusters (j); ++c) {
      if (!done (j, c))
        continue;
      for (newest = -1, k = 0; k <= j; ++k)
        if (live (k) && c < clusters (k) && oracle_holder (k, c) == j)
          newest = (int) k;
      by = chain_reader (chain, j, c, clusters (j), &run);
      CHECK (by == (newest < 0 ? NULL : env.s[newest].snap));
      CHECK (run > c && run <= clusters (j));
      for (i = c; by && i < run; ++i)
        CHECK (!done (j, i) || oracle_holder ((unsigned) newest, i) == j);
    }
}

/* Each snapshot is live, broken or hidden, and done anywhere; and some are
 * backups, which nobody else looks through.
 */
static void
test_all_small_chains (void)
{
  static const unsigned backups[] = { 0, 1 << 1, 1 << 2 | 1, 1 << 3 | 1 << 1 };
  unsigned n, bits, combination, j;

  for (n = 0; n < 4 * sizeof sizes / sizeof sizes[0]; ++n) {
    env_start_bare (&env, 3 * CS, CS, 1);
    for (j = 0; j < NR_MAX; ++j)
      env_create (&env, sizes[n / 4][j] * CS);
    for (j = 0; j < NR_MAX; ++j)
      env.s[j].snap->fixed.options.backup = backups[n % 4] >> j & 1;
    for (combination = 0; combination < 81; ++combination) {
      for (j = 0; j < NR_MAX; ++j)
        snapshot_set_state (env.s[j].snap, state_of (combination, j));
      for (bits = combination % STRIDE; bits < 1u << (3 * NR_MAX);
           bits += n % 4 ? 5 * STRIDE : STRIDE) {
        put_bits (sizes[n / 4], bits, 3);
        if (combination == 0)   /* states are nothing to a holder */
          check_holders (env.engine.chain.current);
        check_needed (env.engine.chain.current);
        check_readers (env.engine.chain.current);
      }
    }
    env_end (&env);
  }
}

/* ---- Dropping ---- */

static void
start_chain (const uint64_t *size, unsigned nr, unsigned bits,
             unsigned combination, unsigned nr_clusters)
{
  unsigned j;

  env_start_bare (&env, size[nr - 1] * CS, CS, 1);
  for (j = 0; j < nr; ++j)
    env_adopt (&env, size[j] * CS, state_of (combination, j));
  put_bits (size, bits, nr_clusters);
}

/* Out of a hidden snapshot everything is punched that nobody needs, and
 * nothing else ever is.
 */
static void
check_punched (bool *before)
{
  unsigned j;
  uint64_t c;
  bool now;

  for (j = 0; j < env.nr; ++j)
    for (c = 0; c < clusters (j); ++c) {
      now = bitmap_test (&env.s[j].punched, c);
      if (env_state (&env, j) != CBW_SNAPSHOT_HIDDEN)
        CHECK (!now);
      else if (done (j, c))
        CHECK_EQ (before[j * 3 + c] || now, !oracle_useful (j, c));
    }
}

static void
drop_and_check (unsigned d)
{
  bool before[NR_MAX * 3];
  const struct chain *chain;
  unsigned j, first;
  uint64_t c;

  /* As if each had been given back when it became useless. */
  for (j = 0; j < env.nr; ++j)
    for (c = 0; c < clusters (j); ++c)
      before[j * 3 + c] = env_state (&env, j) == CBW_SNAPSHOT_HIDDEN &&
        done (j, c) && !oracle_useful (j, c);

  /* Which go: the oldest ones, hidden already or now. */
  for (first = 0; first < env.nr &&
         (first == d || env_state (&env, first) == CBW_SNAPSHOT_HIDDEN);
       ++first)
    ;
  env_drop (&env, d);
  chain = env.engine.chain.current;
  CHECK_EQ (chain ? chain->len : 0, env.nr - first);
  for (j = 0; j < env.nr; ++j) {
    if (j < first)
      CHECK_EQ (env_state (&env, j), CBW_SNAPSHOT_EMPTY);
    else
      CHECK (chain->snaps[j - first] == env.s[j].snap);
    if (j == d && j >= first)
      CHECK_EQ (env_state (&env, j), CBW_SNAPSHOT_HIDDEN);
  }
  check_punched (before);
}

static void
test_drop_in_all_small_chains (void)
{
  static const uint64_t four[] = { 2, 2, 2, 2 }, grown[] = { 1, 1, 2, 2 },
    three[] = { 1, 3, 3 };
  static const struct { const uint64_t *size; unsigned nr, clusters; } t[] = {
    { four, 4, 2 }, { grown, 4, 2 }, { three, 3, 3 },
  };
  unsigned n, bits, combination, d, combinations;

  for (n = 0; n < 3; ++n) {
    combinations = t[n].nr == 4 ? 81 : 27;
    for (combination = 0; combination < combinations; ++combination)
      for (bits = combination % DROP_STRIDE;
           bits < 1u << (t[n].nr * t[n].clusters); bits += DROP_STRIDE)
        for (d = 0; d < t[n].nr; ++d) {
          if (state_of (combination, d) == CBW_SNAPSHOT_HIDDEN)
            continue;
          start_chain (t[n].size, t[n].nr, bits, combination, t[n].clusters);
          drop_and_check (d);
          env_end (&env);
        }
  }
}

static void
check_all_whole (void)
{
  uint64_t length;
  unsigned j;

  for (j = 0; j < env.nr; ++j)
    if (live (j)) {
      CHECK (env_view_of (&env, j, 0, env.s[j].entry.size) == 0);
      CHECK (env_view_extents_of (&env, j, 0, env.s[j].entry.size,
                                  &length) == 0);
    }
    else
      CHECK_EQ (env_view_of (&env, j, 0, 1), ESHUTDOWN);
}

/* Four snapshots, dropped in each of the orders there are, with writes
 * before, between and after.
 */
static void
test_drop_in_every_order (void)
{
  unsigned order, n, left, j, d;
  uint64_t seed = 1, c;

  for (order = 0; order < 24; ++order) {
    env_start_bare (&env, 12 * CS - 7, CS, order);
    for (j = 0; j < 4; ++j) {
      env_create (&env, env.disk.fake.size);
      for (c = 0; c < 3; ++c)
        env_guest (&env, unit_random (&seed) % 3,
                   unit_random (&seed) % 11 * CS + 5, CS,
                   (unsigned char) unit_random (&seed));
    }
    check_all_whole ();
    for (left = 4, n = order; left > 0; n /= left, left--) {
      d = n % left;             /* the d-th of those that are left */
      for (j = 0; !live (j) || d-- > 0; ++j)
        ;
      env_drop (&env, j);
      check_all_whole ();
      env_guest (&env, unit_random (&seed) % 3,
                 unit_random (&seed) % 11 * CS + 5, CS, 0x5a);
      check_all_whole ();
    }
    CHECK (env.engine.chain.current == NULL);
    for (j = 0; j < 4; ++j)
      CHECK_EQ (env_state (&env, j), CBW_SNAPSHOT_EMPTY);
    env_end (&env);
  }
}

/* A random walk, with up to 64 snapshots. */
static void
test_random_walk (void)
{
  uint64_t seed, size, offset;
  unsigned walk, n, j;

  for (walk = 0, seed = 1; walk < WALKS; ++walk) {
    env_start_bare (&env, 12 * CS - 100, CS, walk);
    size = walk % 2 ? env.disk.fake.size : 3 * CS + 50;
    for (n = 0; n < 250; ++n) {
      switch (unit_random (&seed) % 8) {
      case 0: case 1:
        if (env.nr < CBW_NR_SNAPSHOTS)
          env_create (&env, size);
        break;
      case 2:
        j = (unsigned) unit_random (&seed) % (env.nr + 1);
        if (j < env.nr && live (j))
          env_drop (&env, j);
        break;
      case 3:                   /* the disk grows */
        size = min_u64 (env.disk.fake.size, size + unit_random (&seed) % CS);
        break;
      default:
        offset = unit_random (&seed) % env.disk.fake.size;
        env_guest (&env, unit_random (&seed) % 3, offset,
                   1 + unit_random (&seed) %
                   min_u64 (env.disk.fake.size - offset, 3 * CS),
                   (unsigned char) n);
      }
      if (n % 16 == 0)
        check_all_whole ();
    }
    check_all_whole ();
    env_end (&env);
  }
}

/* However many there are, a cluster is copied once. */
static void
test_copied_once (void)
{
  unsigned j;

  env_start_bare (&env, 4 * CS, CS, 1);
  for (j = 0; j < CBW_NR_SNAPSHOTS; ++j)
    env_create (&env, 4 * CS);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xbb);
  CHECK_EQ (env.disk.fake.reads, 1);
  for (j = 0; j < CBW_NR_SNAPSHOTS; ++j)
    CHECK_EQ (env.s[j].target->fake.writes, j == CBW_NR_SNAPSHOTS - 1);
  check_all_whole ();
  env_end (&env);
}

/* The newest is dropped: no more copies go there, but to the older one that
 * needs them.
 */
static void
test_hidden_newest (void)
{
  env_start_bare (&env, 4 * CS, CS, 1);
  env_create (&env, 4 * CS);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
  env_create (&env, 4 * CS);
  env_drop (&env, 1);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xbb);
  CHECK_EQ (env.s[0].target->fake.writes, 1);
  env_guest (&env, GUEST_WRITE, 2 * CS, CS, 0xbb);
  CHECK_EQ (env.s[0].target->fake.writes, 2);
  CHECK_EQ (env.s[1].target->fake.writes, 0);
  CHECK (done (0, 2) && !done (1, 2) && !done (1, 0));
  check_all_whole ();
  env_end (&env);
}

/* ---- Failures ---- */

enum failing { SOURCE_FAILS, ALL_TARGETS_FAIL, NEWEST_TARGET_FAILS };

/* A copy that fails breaks those that needed it, each with the offset,
 * and nobody else.  Where it is the target that fails that is one snapshot:
 * the next older one has its own.
 */
static void
fail_and_check (enum failing failing)
{
  uint32_t before[NR_MAX];
  bool needed[NR_MAX];
  int j, newest = -1;

  for (j = 0; j < (int) env.nr; ++j) {
    needed[j] = oracle_needs ((unsigned) j, 1);
    before[j] = env_state (&env, (unsigned) j);
    if (needed[j])
      newest = j;
    if (failing == ALL_TARGETS_FAIL)
      atomic_store (&env.s[j].target->fake.fail, EIO);
  }
  if (failing == SOURCE_FAILS)
    atomic_store (&env.disk.fake.fail, EIO);
  if (failing == NEWEST_TARGET_FAILS && newest >= 0)
    atomic_store (&env.s[newest].target->fake.fail, EIO);
  for (j = 0; j < newest; ++j)
    needed[j] = needed[j] && failing != NEWEST_TARGET_FAILS;
  env_guest (&env, GUEST_WRITE, CS + 5, 1, 0xaa);
  for (j = 0; j < (int) env.nr; ++j) {
    CHECK_EQ (env_state (&env, (unsigned) j),
              needed[j] ? CBW_SNAPSHOT_BROKEN : before[j]);
    if (needed[j]) {
      CHECK_EQ (env.s[j].entry.error_num, EIO);
      CHECK_EQ (env.s[j].entry.error_offset, CS);
    }
  }
}

static void
test_failure_in_all_small_chains (void)
{
  static const uint64_t size[] = { 2, 2, 2, 3 };
  unsigned bits, combination, failing, j, spread;

  for (failing = SOURCE_FAILS; failing <= NEWEST_TARGET_FAILS; ++failing)
    for (combination = 0; combination < 81; ++combination)
      for (bits = 0; bits < 1 << NR_MAX; ++bits) {
        spread = 0;             /* done bits of cluster 1 of 3 */
        for (j = 0; j < NR_MAX; ++j)
          spread |= (bits >> j & 1) << (3 * j + 1);
        start_chain (size, NR_MAX, spread, combination, 3);
        env.disk.fake.data[CS] = 1; /* not zero, or nothing is written */
        fail_and_check (failing);
        env_end (&env);
      }
}

/* ---- A reader, and what may happen in the middle of it ---- */

static void
create_and_change (void *opaque)
{
  env_create (&env, env.disk.fake.size);
  env_guest (&env, *(enum guest_op *) opaque, 0, env.disk.fake.size, 0xaa);
}

/* A new snapshot, between any two steps of reading the source: what is
 * overwritten from then on is in its target, not in ours.
 */
static void
test_create_in_mid_read (void)
{
  static enum guest_op to_data = GUEST_WRITE, to_zero = GUEST_ZERO;
  uint64_t length;
  unsigned i;

  for (i = 0; i < 3; ++i) {
    env_start (&env, 6 * CS + 9, CS, 1);
    hook_set (fake_hook (&env.disk.fake, i), create_and_change, &to_data);
    CHECK (env_view (&env, 0, 6 * CS + 9) == 0);
    CHECK (env_view_of (&env, 1, 0, 6 * CS + 9) == 0);
    CHECK_EQ (env.s[1].target->fake.writes, 3); /* runs between zeroes */
    env_end (&env);

    env_start (&env, 6 * CS + 9, CS, 1);
    hook_set (fake_hook (&env.disk.fake, i), create_and_change, &to_zero);
    CHECK (env_view_extents (&env, 0, 6 * CS + 9, &length) == 0);
    env_end (&env);
  }
}

/* The snapshots that ours looks through are dropped, one by one. */
static void
drop_newer (void *unused)
{
  (void) unused;
  env_drop (&env, 2);
  env_drop (&env, 1);
  env_guest (&env, GUEST_WRITE, 0, env.disk.fake.size, 0xcc);
}

static void
test_drop_newer_in_mid_read (void)
{
  unsigned i, target;

  for (target = 0; target < 3; ++target)
    for (i = 0; i < 3; ++i) {
      env_start (&env, 6 * CS, CS, 1);
      env_guest (&env, GUEST_WRITE, 5 * CS, CS, 0x99);
      env_create (&env, 6 * CS);
      env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
      env_create (&env, 6 * CS);
      env_guest (&env, GUEST_WRITE, 0, 3 * CS, 0xbb);
      hook_set (target == 0 ? fake_hook (&env.disk.fake, i) :
                fake_hook (&env.s[target].target->fake, i), drop_newer, NULL);
      CHECK (env_view (&env, 0, 6 * CS) == 0);
      CHECK (env_view (&env, 0, 6 * CS) == 0);
      env_end (&env);
    }
}

/* The snapshot itself is dropped: its reader is told, and nobody gets its
 * entry before that reader has gone.
 */
static void
drop_read_one (void *unused)
{
  (void) unused;
  env_drop (&env, 0);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN);
  CHECK_EQ (env_view (&env, 0, 1), ESHUTDOWN);
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_WRITE, 0, env.disk.fake.size, 0xcc);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN);
}

static void
test_drop_in_mid_read (void)
{
  const unsigned nr = 2;
  unsigned i, target;

  for (target = 0; target < nr; ++target)
    for (i = 0; i < 3; ++i) {
      env_start (&env, 6 * CS, CS, 1);
      env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
      hook_set (fake_hook (target ? &env.s[0].target->fake : &env.disk.fake,
                           i), drop_read_one, NULL);
      CHECK_EQ (env_view (&env, 0, 6 * CS), ESHUTDOWN);
      CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_EMPTY);
      CHECK (env_view_of (&env, 1, 0, 6 * CS) == 0);
      env_end (&env);
    }
}

/* A reader of an older one keeps those alive that it looks through, when
 * all are dropped in the middle of it.
 */
static void
drop_all (void *unused)
{
  (void) unused;
  env_drop (&env, 1);
  env_drop (&env, 0);
  CHECK (env.engine.chain.current == NULL);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN);
  CHECK_EQ (env_state (&env, 1), CBW_SNAPSHOT_HIDDEN);
}

static void
test_drop_all_in_mid_read (void)
{
  env_start (&env, 6 * CS, CS, 1);
  env_create (&env, 6 * CS);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
  hook_set (&env.s[1].target->fake.amid, drop_all, NULL);
  CHECK_EQ (env_view (&env, 0, CS), ESHUTDOWN);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_EMPTY);
  CHECK_EQ (env_state (&env, 1), CBW_SNAPSHOT_EMPTY);
  env_end (&env);
}

/* ---- The cut ---- */

/* A guest's change is under way, past its look at the chain: a snapshot
 * waits for its end, since it does not hold what was there before.
 */
static pthread_t other;
static _Atomic (bool) finished;

static void *
other_create (void *opaque)
{
  (void) opaque;
  env_create (&env, env.disk.fake.size);
  atomic_store (&finished, true);
  return NULL;
}

static void *
other_drop (void *opaque)
{
  env_drop (&env, *(unsigned *) opaque);
  atomic_store (&finished, true);
  return NULL;
}

static void
check_waits (void *(*run) (void *), void *opaque)
{
  struct guest_change change;

  atomic_store (&finished, false);
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, 0, CS,
                                GUEST_WRITE,
                                NULL, &change), 0);
  pthread_create (&other, NULL, run, opaque);
  unit_give_time ();
  CHECK (!atomic_load (&finished));
  engine_guest_end (&env.engine, &change, false);
  pthread_join (other, NULL);
  CHECK (atomic_load (&finished));
}

static void
test_create_waits_for_guest (void)
{
  env_start (&env, 6 * CS, CS, 1);
  check_waits (other_create, NULL);
  env_end (&env);
}

/* So does a drop: a copy that it alone needed may be under way. */
static void
test_drop_waits_for_guest (void)
{
  static unsigned newest = 1;

  env_start (&env, 6 * CS, CS, 1);
  env_create (&env, 6 * CS);
  check_waits (other_drop, &newest);
  env_end (&env);
}

static void
test_drop_twice (void)
{
  struct error e;

  env_start (&env, 6 * CS, CS, 1);
  env_create (&env, 6 * CS);
  env_drop (&env, 1);
  env_drop (&env, 1);
  env_drop (&env, 0);
  env_drop (&env, 0);
  env_drop (&env, 1);
  CHECK (drop_snapshot (&env.engine, &env.segment, 0, false, 0, &e) == -1);
  CHECK_ERROR (&e, ENOENT, "no snapshot");
  CHECK (drop_snapshot (&env.engine, &env.segment, ENV_ID (2), false, 0, &e) == -1);
  CHECK_ERROR (&e, ENOENT, "no snapshot");
  env_end (&env);
}

/* ---- Bits that change while they are looked at ---- */

#define RACE_BITS 4096u

static struct bitmap race_done, race_access;
static _Atomic (uint64_t) race_at;

/* Done bits are set, access bits cleared, one by one and for good. */
static void *
change_bits (void *unused)
{
  uint64_t c;

  (void) unused;
  for (c = 0; c < RACE_BITS; ++c) {
    atomic_store (&race_at, c);
    if (c % 2)
      bitmap_set (&race_done, c, c + 1);
    else
      bitmap_clear (&race_access, c, c + 1);
  }
  atomic_store (&race_at, RACE_BITS);
  return NULL;
}

/* No run is empty, or who walks by runs walks backwards. */
static void
look_at_bits (const struct chain *chain)
{
  struct chain_need need;
  uint64_t c, run;

  while ((c = atomic_load (&race_at)) < RACE_BITS) {
    view_holder (&chain->views, 0, c, RACE_BITS, &run);
    CHECK (run > c && run <= RACE_BITS);
    if (chain_next_needed (chain, c, RACE_BITS, &need))
      CHECK (need.start >= c && need.start < need.end);
  }
}

static void
test_changing_bits (void)
{
  static uint64_t words[3][RACE_BITS / 64];
  struct cbw_snapshot *entry = calloc (1, sizeof *entry);
  struct snapshot snap = {
    .view = {
      .cluster_size = CS, .size = RACE_BITS * CS, .state = &snap.state
    }
  };
  struct chain *chain = calloc (1, sizeof *chain);
  pthread_t thread;
  unsigned round;

  CHECK (entry != NULL && chain != NULL);
  atomic_store (&entry->state, CBW_SNAPSHOT_LIVE);
  snap.entry = entry;
  snap.view.done = (struct bitmap) { (void *) words[0], RACE_BITS };
  snap.view.access = (struct bitmap) { (void *) words[1], RACE_BITS };
  snap.settled = (struct bitmap) { (void *) words[2], RACE_BITS };
  race_done = snap.view.done;
  race_access = snap.view.access;
  chain->len = 1;
  chain->snaps[0] = &snap;
  chain->views.len = 1;
  chain->views.views[0] = &snap.view;

  for (round = 0; round < 200; ++round) {
    bitmap_clear (&snap.view.done, 0, RACE_BITS);
    bitmap_set (&snap.view.access, 0, RACE_BITS);
    atomic_store (&race_at, 0);
    pthread_create (&thread, NULL, change_bits, NULL);
    look_at_bits (chain);
    pthread_join (thread, NULL);
  }
  free (chain);
  free (entry);
}

int
main (void)
{
  unit_start ();
  RUN (test_all_small_chains);
  RUN (test_drop_in_all_small_chains);
  RUN (test_drop_in_every_order);
  RUN (test_random_walk);
  RUN (test_copied_once);
  RUN (test_hidden_newest);
  RUN (test_failure_in_all_small_chains);
  RUN (test_create_in_mid_read);
  RUN (test_drop_newer_in_mid_read);
  RUN (test_drop_in_mid_read);
  RUN (test_drop_all_in_mid_read);
  RUN (test_create_waits_for_guest);
  RUN (test_drop_waits_for_guest);
  RUN (test_drop_twice);
  RUN (test_changing_bits);
  return unit_end ();
}
