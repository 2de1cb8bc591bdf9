/* SPDX-License-Identifier: BSD-3-Clause */

/* What a guest's change does before it reaches the disk: invariants 1, 2,
 * 5, 8, 9 and 10 of the engine.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "unit.h"

#define K 1024
#define CS (64 * K)
#define PIECE (512 * K)        /* of a copy */

static struct env env;

static void
check_done (uint64_t start, uint64_t end)
{
  uint64_t c;

  for (c = 0; c < env.s->snap->view.done.nbits; ++c)
    CHECK_EQ (env_done (&env, c), c >= start && c < end);
  CHECK_EQ (env.s->entry.copied_clusters, end - start);
}

/* One byte: its whole cluster is preserved, and only that. */
static void
test_one_byte (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, 3 * CS - 1, 1, 0xaa);
  check_done (2, 3);
  CHECK_EQ (env.disk.fake.last_offset, 2 * CS);
  CHECK_EQ (env.disk.fake.last_count, CS);
  CHECK_EQ (env.s->entry.copied_bytes, CS);
  CHECK (bitmap_test (&env.s->snap->settled, 2));
  env_end (&env);
}

/* Neighbouring clusters: one read of the source; one write of the target
 * for each run that is not zero.
 */
static void
test_run (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, 2 * CS + 5, 3 * CS, 0xaa);
  check_done (2, 6);
  CHECK_EQ (env.disk.fake.reads, 1);
  CHECK_EQ (env.disk.fake.last_count, 4 * CS);
  CHECK_EQ (env.s->target->fake.writes, 2); /* 2 3 and 5; 4 is zero */
  CHECK_EQ (env.s->entry.copied_bytes, 3 * CS);
  env_end (&env);
}

/* Done clusters in the middle of a range are not copied again. */
static void
test_once (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, 3 * CS, CS, 0xaa);
  env_guest (&env, GUEST_WRITE, 3 * CS + 9, 10, 0xbb);
  CHECK_EQ (env.disk.fake.reads, 1);
  env_guest (&env, GUEST_TRIM, 2 * CS, 3 * CS, 0);
  check_done (2, 5);
  CHECK (env_view (&env, 0, 10 * CS) == 0);
  env_end (&env);
}

/* A disk that ends inside a cluster, and at every odd place. */
static void
test_last_cluster (void)
{
  static const uint64_t sizes[] = {
    1, 511, CS - 1, CS, CS + 1, 2 * CS + 513, 3 * CS - 1
  };
  uint64_t size, last;
  size_t i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    size = sizes[i];
    last = (size - 1) / CS;
    env_start (&env, size, CS, i);
    CHECK (env_view (&env, 0, size) == 0);
    env_guest (&env, GUEST_WRITE, size - 1, 1, 0xaa);
    check_done (last, last + 1);
    CHECK_EQ (env.disk.fake.last_offset, last * CS);
    CHECK_EQ (env.disk.fake.last_count, size - last * CS);
    CHECK (env_view (&env, 0, size) == 0);
    CHECK (env_view (&env, size - 1, 1) == 0);
    env_guest (&env, GUEST_ZERO, 0, size, 0);
    check_done (0, last + 1);
    CHECK (env_view (&env, 0, size) == 0);
    env_end (&env);
  }
}

/* The done bit comes after the last byte is in the target. */
static void
look_not_done (void *unused)
{
  (void) unused;
  CHECK (!bitmap_test (&env.s->snap->view.done, 2));
  CHECK (!bitmap_test (&env.s->snap->settled, 2));
  CHECK (memcmp (env.disk.fake.data, env.s->old, env.s->snap->view.size) == 0);
  CHECK (env_view (&env, 2 * CS, CS) == 0);
}

static void
test_done_is_last (void)
{
  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.disk.fake.before, look_not_done, NULL);
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  env_end (&env);

  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.s->target->fake.before, look_not_done, NULL);
  hook_set (&env.s->target->fake.amid, look_not_done, NULL);
  hook_set (&env.s->target->fake.after, look_not_done, NULL);
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  check_done (2, 3);
  env_end (&env);
}

/* Zero clusters, and holes under trims and zeroes. */
static void
test_zero_clusters (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, CS, CS, 0xaa);
  check_done (1, 2);
  CHECK_EQ (env.disk.fake.reads, 1);
  CHECK_EQ (env.s->target->fake.writes, 0);
  env_end (&env);

  /* Nothing is read of a hole, even where the rest of the disk is one. */
  env_start (&env, 1000 * CS, CS, 1);
  memset (env.disk.fake.data + 5 * CS, 0, 995 * CS);
  memset (env.s->old + 5 * CS, 0, 995 * CS);
  env_guest (&env, GUEST_TRIM, 5 * CS + 1, 990 * CS, 0);
  check_done (5, 996);
  CHECK_EQ (env.disk.fake.reads, 0);
  CHECK_EQ (env.disk.fake.extents, 1);
  /* A hole that ends inside a cluster, before and after data. */
  env_guest (&env, GUEST_ZERO, 0, 1000 * CS, 0);
  check_done (0, 1000);
  CHECK (env_view (&env, 0, 1000 * CS) == 0);
  env_end (&env);
}

/* Holes smaller than a cluster, or not on its boundaries, say nothing
 * about the rest of it.
 */
static void
test_partial_holes (void)
{
  uint64_t seed = 3, from, to, c;
  unsigned n;

  for (n = 0; n < 60; ++n) {
    env_start (&env, 12 * CS + 777, CS, n);
    for (c = 0; c < 6; ++c) {
      from = unit_random (&seed) % env.s->snap->view.size;
      to = from + unit_random (&seed) % (env.s->snap->view.size - from);
      memset (env.disk.fake.data + from, c % 2 ? 0x77 : 0, to - from);
    }
    memcpy (env.s->old, env.disk.fake.data, env.s->snap->view.size);
    from = unit_random (&seed) % env.s->snap->view.size;
    to = from + 1 + unit_random (&seed) % (env.s->snap->view.size - from);
    env_guest (&env, n % 2 ? GUEST_TRIM : GUEST_ZERO, from, to - from, 0);
    for (c = from / CS; c * CS < to; ++c)
      CHECK (env_done (&env, c));
    CHECK (env_view (&env, 0, env.s->snap->view.size) == 0);
    env_end (&env);
  }
}

/* The disk has grown since: nothing to preserve behind the snapshot. */
static void
test_past_the_end (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env.s->snap->view.size = 4 * CS + 100;
  env.s->snap->view.done.nbits = env.s->snap->view.access.nbits =
    env.s->snap->settled.nbits = 5;
  env_guest (&env, GUEST_WRITE, 4 * CS + 100, CS, 0xaa);
  env_guest (&env, GUEST_TRIM, 6 * CS, CS, 0);
  check_done (0, 0);
  CHECK_EQ (env.disk.fake.reads, 0);
  env_guest (&env, GUEST_WRITE, 3 * CS, 5 * CS, 0xbb);
  check_done (3, 5);
  CHECK_EQ (env.disk.fake.last_count, CS + 100);
  CHECK (env_view (&env, 0, 4 * CS + 100) == 0);
  env_end (&env);
}

/* Outside the access bitmap nothing is copied. */
static void
test_access (void)
{
  env_start (&env, 10 * CS, CS, 1);
  bitmap_clear (&env.s->snap->view.access, 3, 6);
  env_guest (&env, GUEST_WRITE, 3 * CS, 3 * CS, 0xaa);
  check_done (0, 0);
  CHECK_EQ (env.disk.fake.reads, 0);
  env_guest (&env, GUEST_WRITE, 0, 10 * CS, 0xbb);
  CHECK_EQ (env.s->entry.copied_clusters, 7);
  CHECK (!env_done (&env, 3) && !env_done (&env, 5));
  CHECK (env_done (&env, 2) && env_done (&env, 6));
  env_end (&env);
}

static void
test_would_copy (void)
{
  env_start (&env, 10 * CS, CS, 1);
  CHECK (engine_guest_would_copy (&env.engine, 2 * CS, 1));
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  CHECK (!engine_guest_would_copy (&env.engine, 2 * CS, CS));
  CHECK (engine_guest_would_copy (&env.engine, 2 * CS, CS + 1));
  CHECK (!engine_guest_would_copy (&env.engine, 10 * CS, CS));
  env_end (&env);
}

/* ---- Writes that change nothing ---- */

/* A guest's write.  Returns if anything was copied for it. */
static bool
write_copies (uint64_t offset, uint64_t count, const unsigned char *data)
{
  const uint64_t copied = env.s[env.nr - 1].entry.copied_clusters;
  struct guest_change change;

  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, offset, count,
                                GUEST_WRITE, data, &change), 0);
  racy_copy (env.disk.fake.data + offset, data, count);
  engine_guest_end (&env.engine, &change, false);
  return env.s[env.nr - 1].entry.copied_clusters > copied;
}

/* The same, of what is there already; "differs" is a byte of it that is not
 * as it was, or -1.
 */
static bool
same_copies (uint64_t offset, uint64_t count, int64_t differs)
{
  unsigned char *data = malloc (count);
  bool r;

  CHECK (data != NULL);
  memcpy (data, env.disk.fake.data + offset, count);
  if (differs >= 0)
    data[differs] ^= 1;
  r = write_copies (offset, count, data);
  free (data);
  return r;
}

static void
test_same (void)
{
  const uint64_t size = 10 * CS + 100;

  env_start (&env, size, CS, 1);
  CHECK (!same_copies (0, CS, -1));
  CHECK (!same_copies (2 * CS + 7, 3 * CS, -1));
  CHECK (!same_copies (3 * CS + 9, CS / 2, -1));
  CHECK (!same_copies (9 * CS + 1, CS + 99, -1));
  CHECK_EQ (env.s->target->fake.writes, 0);
  check_done (0, 0);
  CHECK (!bitmap_test (&env.s->snap->settled, 3));

  /* Each of its ends counts, and what it does change is kept. */
  CHECK (same_copies (2 * CS + 7, 3 * CS, 0));
  check_done (2, 6);
  CHECK (same_copies (10 * CS, 100, 99));
  CHECK (bitmap_test (&env.s->snap->view.done, 10));
  CHECK (env_view (&env, 0, size) == 0);

  CHECK (!same_copies (0, size, -1));
  CHECK (same_copies (0, size, 2 * CS - 1)); /* the run 0 1, not 6 ... 9 */
  CHECK (!bitmap_test (&env.s->snap->view.done, 6));
  CHECK (bitmap_test (&env.s->snap->settled, 1));
  CHECK (!bitmap_test (&env.s->snap->settled, 6));
  CHECK (bitmap_test (&env.s->snap->settled, 10));
  CHECK (env_view (&env, 0, size) == 0);

  /* Of little, all of the cluster would be read each time. */
  CHECK (same_copies (6 * CS + 9, CS / 2 - 1, -1));
  CHECK (!same_copies (6 * CS + 9, CS / 2 - 1, -1));
  env_end (&env);
}

/* What is the same at first need not stay so: the clusters were not made
 * settled, so the next write has them copied.  And a write over several runs
 * is looked at in each of them.
 */
static void
test_same_partly (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, 6 * CS, CS, 0xaa);
  CHECK (!write_copies (5 * CS, 3 * CS, env.s->old + 5 * CS));
  check_done (6, 7);
  CHECK (same_copies (5 * CS, 3 * CS, 0));
  check_done (5, 7);
  CHECK (same_copies (5 * CS, 3 * CS, 3 * CS - 1));
  check_done (5, 8);
  CHECK (env_view (&env, 0, 10 * CS) == 0);
  env_end (&env);
}

/* The next snapshot finds it unchanged too: nothing of the write is left
 * to come.
 */
static void
test_same_chain (void)
{
  env_start (&env, 4 * CS, CS, 1);
  env_guest (&env, GUEST_WRITE, CS, CS, 0xaa);
  env_create (&env, 4 * CS);
  CHECK (!same_copies (0, 4 * CS, -1));
  env_create (&env, 4 * CS);    /* the gate is open again */
  CHECK (!same_copies (0, 4 * CS, -1));
  CHECK (env_view_of (&env, 0, 0, 4 * CS) == 0);
  CHECK (env_view_of (&env, 1, 0, 4 * CS) == 0);
  CHECK (same_copies (0, 4 * CS, CS));
  CHECK (env_view_of (&env, 0, 0, 4 * CS) == 0);
  CHECK (env_view_of (&env, 1, 0, 4 * CS) == 0);
  env_end (&env);
}

/* On a disk that has grown, the end of the write is past the snapshot: that
 * it changes does not matter.
 */
static void
test_same_grown (void)
{
  env_start_bare (&env, 10 * CS, CS, 1);
  env_create (&env, 4 * CS - 5);
  CHECK (!same_copies (3 * CS, 2 * CS, -1));
  CHECK (!same_copies (3 * CS, 2 * CS, CS - 5));
  CHECK (!same_copies (5 * CS, CS, 1));
  CHECK (same_copies (3 * CS, 2 * CS, CS - 6));
  check_done (3, 4);
  env_end (&env);
}

/* ---- Failures ---- */

/* The snapshot is marked broken before the change can reach the disk; the
 * change goes through; nothing is copied any more.
 */
static void
check_broken (int num, uint64_t offset)
{
  CHECK_EQ (env.s->entry.state, CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env.s->entry.error_reason, CBW_BROKEN_COPY);
  CHECK_EQ (env.s->entry.error_num, num);
  CHECK_EQ (env.s->entry.error_offset, offset);
  CHECK_EQ (env_view (&env, 0, 1), EIO);
}

static void
test_source_fails (void)
{
  struct guest_change change;

  env_start (&env, 10 * CS, CS, 1);
  env.disk.fake.fail = ENOMEM;
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, 2 * CS + 1, 1,
                                GUEST_WRITE, NULL, &change), 0);
  check_broken (ENOMEM, 2 * CS);
  engine_guest_end (&env.engine, &change, false);
  check_done (0, 0);

  env.disk.fake.fail = 0;
  env_guest (&env, GUEST_WRITE, 0, 10 * CS, 0xaa);
  CHECK_EQ (env.disk.fake.reads, 1);
  check_broken (ENOMEM, 2 * CS);
  env_end (&env);
}

static void
test_target_fails (void)
{
  env_start (&env, 10 * CS, CS, 1);
  env.s->target->fake.fail = ENOSPC;
  env_guest (&env, GUEST_WRITE, CS, 4 * CS, 0xaa);
  check_broken (ENOSPC, CS);
  check_done (0, 0);
  CHECK_EQ (env.disk.fake.data[CS], 0xaa);
  env_end (&env);
}

/* Only what failed: the first pieces of a long write are preserved. */
static void
fail_now (void *unused)
{
  (void) unused;
  env.s->target->fake.fail = ENOSPC;
}

static void
test_later_piece_fails (void)
{
  env_start (&env, 40 * CS, CS, 1);
  hook_set (&env.disk.fake.after, fail_now, NULL);
  env.disk.fake.after.skip = 2;
  env_guest (&env, GUEST_WRITE, 0, 40 * CS, 0xaa);
  check_broken (ENOSPC, 2 * PIECE);
  check_done (0, 2 * PIECE / CS);
  env_end (&env);
}

/* Nowhere to write to. */
static void
test_no_target (void)
{
  struct image *target;

  env_start (&env, 10 * CS, CS, 1);
  target = env.s->snap->target;
  env.s->snap->target = env.s->snap->view.store = image_missing_new ("missing");
  CHECK (env.s->snap->target != NULL);
  env_guest (&env, GUEST_WRITE, 2 * CS, 2 * CS, 0xaa);
  check_broken (EIO, 2 * CS);
  env.s->snap->target->ops->close (env.s->snap->target);
  env.s->snap->target = env.s->snap->view.store = target;
  env_end (&env);
}

/* ---- Two guests ---- */

static pthread_t other;
static _Atomic (bool) other_began;

static void *
other_guest (void *opaque)
{
  const uint64_t offset = *(uint64_t *) opaque;
  struct guest_change change;

  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, offset, 1,
                                GUEST_WRITE, NULL, &change), 0);
  atomic_store (&other_began, true);
  env.disk.fake.data[offset] = 0xbb;
  engine_guest_end (&env.engine, &change, false);
  return NULL;
}

static void
start_other (void *opaque)
{
  atomic_store (&other_began, false);
  pthread_create (&other, NULL, other_guest, opaque);
}

/* In the middle of the first one's copy the second must wait. */
static void
start_other_in_cluster (void *opaque)
{
  start_other (opaque);
  unit_give_time ();
  CHECK (!atomic_load (&other_began));
}

static void
test_same_and_another (void)
{
  static uint64_t offset = 3 * CS - 1;

  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.disk.fake.amid, start_other_in_cluster, &offset);
  write_copies (2 * CS, CS - 1, env.s->old + 2 * CS);
  pthread_join (other, NULL);
  check_done (2, 3);
  CHECK_EQ (env.disk.fake.reads, 2);
  CHECK_EQ (env.disk.fake.data[offset], 0xbb);
  CHECK (env_view (&env, 0, 10 * CS) == 0);
  env_end (&env);
}

static void
test_two_in_one_cluster (void)
{
  static uint64_t offset = 2 * CS + 100;

  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.disk.fake.amid, start_other_in_cluster, &offset);
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  pthread_join (other, NULL);
  CHECK_EQ (env.disk.fake.reads, 1);
  CHECK_EQ (env.s->target->fake.writes, 1);
  check_done (2, 3);
  CHECK (env_view (&env, 0, 10 * CS) == 0);
  env_end (&env);

  /* The same while the target is being written. */
  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.s->target->fake.amid, start_other_in_cluster, &offset);
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  pthread_join (other, NULL);
  CHECK_EQ (env.disk.fake.reads, 1);
  check_done (2, 3);
  env_end (&env);
}

/* The copy that the second waits for fails: it goes on too, and does not
 * take the cluster for done.
 */
static void
test_two_and_failure (void)
{
  static uint64_t offset = 2 * CS + 100;

  env_start (&env, 10 * CS, CS, 1);
  env.disk.fake.fail = EIO;
  hook_set (&env.disk.fake.amid, start_other_in_cluster, &offset);
  env_guest (&env, GUEST_WRITE, 2 * CS, 1, 0xaa);
  pthread_join (other, NULL);
  CHECK_EQ (env.disk.fake.reads, 1);
  check_broken (EIO, 2 * CS);
  check_done (0, 0);
  env_end (&env);
}

/* Different clusters: nobody waits. */
static void
run_other (void *opaque)
{
  start_other (opaque);
  pthread_join (other, NULL);
}

static void
test_two_in_two_clusters (void)
{
  static uint64_t offset = 3 * CS;

  env_start (&env, 10 * CS, CS, 1);
  hook_set (&env.disk.fake.amid, run_other, &offset);
  env_guest (&env, GUEST_WRITE, 2 * CS, CS, 0xaa);
  CHECK_EQ (env.disk.fake.reads, 2);
  check_done (2, 4);
  env_end (&env);
}

/* A long write holds up others for a piece at most: what it has copied is
 * free, what it has not come to yet as well.
 */
static void
test_long_is_in_pieces (void)
{
  static uint64_t behind = 0, ahead = 39 * CS;
  static const enum guest_op ops[] = { GUEST_WRITE, GUEST_ZERO };
  unsigned i;

  for (i = 0; i < 2; ++i) {
    env_start (&env, 40 * CS, CS, 1);
    hook_set (&env.disk.fake.amid, run_other, &behind);
    /* A zero asks for extents first, whose hook is another operation. */
    env.disk.fake.amid.skip = 4;
    env_guest (&env, ops[i], 0, 40 * CS, 0xaa);
    check_done (0, 40);
    env_end (&env);

    env_start (&env, 40 * CS, CS, 1);
    hook_set (&env.s->target->fake.amid, run_other, &ahead);
    env.s->target->fake.amid.skip = 4;
    env_guest (&env, ops[i], 0, 40 * CS, 0xaa);
    check_done (0, 40);
    CHECK (env_view (&env, 0, 40 * CS) == 0);
    env_end (&env);
  }
}

/* ---- Writes that change nothing, and fail ---- */

/* Begin to write what is there, and leave anything in its place. */
static void
begin_unchanged (struct guest_change *write, unsigned char *data,
                 uint64_t offset, uint64_t count)
{
  memcpy (data, env.disk.fake.data + offset, count);
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, offset, count,
                                GUEST_WRITE, data, write), 0);
  memset (env.disk.fake.data + offset, 0, count);
}

/* The claims that readers see which do not ask. */
static uint64_t
seen_claims (void)
{
  return atomic_load (&env_header (&env)->unchanged_claims);
}

/* For a target's write: the claims are to be seen until all is done. */
static void
see_claims (void *opaque)
{
  unsigned *seen = opaque;

  *seen += seen_claims () > 0;
}

/* A reader that comes in the middle of it sees what was there; and after it,
 * as it has been copied.  Where it succeeds, nothing has been.
 */
static void
test_unchanged_fails (void)
{
  static unsigned char data[11 * CS];
  const uint64_t from[] = { 0, 2 * CS + 100, 3 * CS };
  const uint64_t counts[] = { 11 * CS, 2 * CS, CS };
  struct guest_change write;
  uint64_t length, c;
  unsigned i, fails, snapshots, seen;

  for (i = 0; i < 3; ++i)
    for (fails = 0; fails < 2; ++fails)
      for (snapshots = 1; snapshots < 3; ++snapshots) {
        env_start (&env, 12 * CS, CS, 5);
        if (snapshots == 2)
          env_backup (&env, true);
        CHECK_EQ (seen_claims (), 0);
        begin_unchanged (&write, data, from[i], counts[i]);
        CHECK_EQ (env.s[0].target->fake.writes, 0);
        CHECK (seen_claims () > 0);
        seen = 0;
        hook_set (&env.s[0].target->fake.after, see_claims, &seen);
        CHECK (env_view (&env, 0, 12 * CS) == 0);
        CHECK (env_view_extents (&env, 0, 12 * CS, &length) == 0);
        if (!fails)
          memcpy (env.disk.fake.data + from[i], data, counts[i]);
        engine_guest_end (&env.engine, &write, fails);
        CHECK_EQ (seen, fails);
        CHECK_EQ (seen_claims (), 0);
        for (c = 0; c < 12; ++c)
          if (fails && c * CS >= from[i] && c * CS < from[i] + counts[i])
            CHECK (env_done (&env, c));
        if (!fails)
          CHECK_EQ (env.s[0].target->fake.writes, 0);
        CHECK (env_view (&env, 0, 12 * CS) == 0);
        if (snapshots == 2)
          CHECK (env_view_of (&env, 1, 0, 12 * CS) == 0);
        env_end (&env);
      }
}

/* It cannot be copied: then the snapshot is broken, whatever its policy. */
static void
test_unchanged_lost (void)
{
  static unsigned char data[CS];
  struct guest_change write;

  env_start (&env, 12 * CS, CS, 5);
  env.s[0].snap->fixed.options.on_error = CBW_ON_ERROR_BREAK_GUEST_WRITE;
  begin_unchanged (&write, data, 3 * CS, CS);
  atomic_store (&env.s[0].target->fake.fail_writes, EIO);
  engine_guest_end (&env.engine, &write, true);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env_view (&env, 0, CS), EIO);
  env_end (&env);
}

int
main (void)
{
  unit_start ();
  RUN (test_one_byte);
  RUN (test_run);
  RUN (test_once);
  RUN (test_last_cluster);
  RUN (test_done_is_last);
  RUN (test_zero_clusters);
  RUN (test_partial_holes);
  RUN (test_past_the_end);
  RUN (test_access);
  RUN (test_would_copy);
  RUN (test_same);
  RUN (test_same_partly);
  RUN (test_same_chain);
  RUN (test_same_grown);
  RUN (test_source_fails);
  RUN (test_target_fails);
  RUN (test_later_piece_fails);
  RUN (test_unchanged_fails);
  RUN (test_unchanged_lost);
  RUN (test_no_target);
  RUN (test_same_and_another);
  RUN (test_two_in_one_cluster);
  RUN (test_two_and_failure);
  RUN (test_two_in_two_clusters);
  RUN (test_long_is_in_pieces);
  return unit_end ();
}
