/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading the snapshot while guests write: invariants 3 and 4 of the
 * engine, every step of the guest between every two steps of the reader.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "service/serve-read.h"
#include "unit.h"

#define K 1024
#define CS (64 * K)
#define SIZE (10 * CS + 1234)

static struct env env;

static void
test_untouched (void)
{
  env_start (&env, SIZE, CS, 1);
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.disk.fake.reads, 1);
  CHECK_EQ (env.s->target->fake.reads, 0);
  CHECK (env_view (&env, 5, 1) == 0);
  CHECK_EQ (env.disk.fake.last_count, 1);
  env_end (&env);
}

/* All in the target: the source is not read. */
static void
test_all_done (void)
{
  env_start (&env, SIZE, CS, 1);
  env_guest (&env, GUEST_WRITE, 2 * CS, 4 * CS, 0xaa);
  atomic_store (&env.disk.fake.reads, 0);
  CHECK (env_view (&env, 2 * CS + 1, 4 * CS - 2) == 0);
  CHECK_EQ (env.disk.fake.reads, 0);
  CHECK_EQ (env.s->target->fake.reads, 1);
  env_end (&env);
}

/* Only what comes from the source is read there. */
static void
test_mixed (void)
{
  env_start (&env, SIZE, CS, 1);
  env_guest (&env, GUEST_WRITE, 0, 2 * CS, 0xaa);
  env_guest (&env, GUEST_WRITE, 5 * CS, CS, 0xbb);
  env_guest (&env, GUEST_TRIM, 9 * CS, SIZE - 9 * CS, 0);
  atomic_store (&env.disk.fake.reads, 0);
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.disk.fake.reads, 1);
  CHECK_EQ (env.disk.fake.last_offset, 2 * CS);
  CHECK_EQ (env.disk.fake.last_count, 7 * CS);

  /* A gap as long as that is left out. */
  env.source.image.skip = CS;
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.disk.fake.reads, 3);
  CHECK_EQ (env.disk.fake.last_offset, 6 * CS);
  CHECK_EQ (env.disk.fake.last_count, 3 * CS);
  env.source.image.skip = CS + 1;
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.disk.fake.reads, 4);
  env_end (&env);
}

/* A guest's change, from begin to end, in mid-read. */
static enum guest_op op;

static void
change_all (void *unused)
{
  (void) unused;
  env_guest (&env, op, 0, SIZE, 0xaa);
}

static void
change_some (void *unused)
{
  (void) unused;
  env_guest (&env, op, 3 * CS - 1, 2, 0xaa);
  env_guest (&env, op, 7 * CS, CS, 0xbb);
}

static void
test_change_in_mid_read (void)
{
  static void (*const changes[]) (void *) = { change_all, change_some };
  unsigned i, j;

  for (op = GUEST_WRITE; op <= GUEST_TRIM; ++op)
    for (i = 0; i < 3; ++i)
      for (j = 0; j < 2; ++j) {
        env_start (&env, SIZE, CS, 1);
        hook_set (fake_hook (&env.disk.fake, i), changes[j], NULL);
        CHECK (env_view (&env, 0, SIZE) == 0);
        CHECK (env_view (&env, 0, SIZE) == 0);
        env_end (&env);
      }
}

/* While a cluster is being copied readers neither wait nor see a part. */
static void
read_all (void *unused)
{
  (void) unused;
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK (env_view (&env, 2 * CS + 7, 3) == 0);
}

static void
test_read_in_mid_copy (void)
{
  unsigned i;

  for (i = 0; i < 6; ++i) {
    env_start (&env, SIZE, CS, 1);
    hook_set (fake_hook (i < 3 ? &env.disk.fake : &env.s->target->fake, i % 3),
              read_all, NULL);
    env_guest (&env, GUEST_WRITE, 2 * CS, CS, 0xaa);
    CHECK (env_done (&env, 2));
    env_end (&env);
  }
}

/* A target read is not disturbed by a later change of the same cluster. */
static void
test_change_in_mid_target_read (void)
{
  unsigned i;

  for (i = 0; i < 3; ++i) {
    env_start (&env, SIZE, CS, 1);
    env_guest (&env, GUEST_WRITE, 0, SIZE, 0x11);
    op = GUEST_WRITE;
    hook_set (fake_hook (&env.s->target->fake, i), change_all, NULL);
    CHECK (env_view (&env, 0, SIZE) == 0);
    env_end (&env);
  }
}

/* ---- Failures ---- */

/* The copy fails, so the change goes through unpreserved, while a reader
 * reads what it changes: the reader must fail.
 */
static void
break_and_change (void *unused)
{
  (void) unused;
  env.s->target->fake.fail = ENOSPC;
  env_guest (&env, GUEST_WRITE, 0, SIZE, 0xaa);
  env.s->target->fake.fail = 0;
}

static void
test_break_in_mid_read (void)
{
  uint64_t length;
  unsigned i;

  for (i = 0; i < 3; ++i) {
    env_start (&env, SIZE, CS, 1);
    hook_set (fake_hook (&env.disk.fake, i), break_and_change, NULL);
    CHECK_EQ (env_view (&env, 0, SIZE), EIO);
    CHECK_EQ (env_view (&env, 0, SIZE), EIO);
    env_end (&env);

    env_start (&env, SIZE, CS, 1);
    hook_set (fake_hook (&env.disk.fake, i), break_and_change, NULL);
    CHECK_EQ (env_view_extents (&env, 0, SIZE, &length), EIO);
    env_end (&env);

    /* And while it reads the target, of the part that is done. */
    env_start (&env, SIZE, CS, 1);
    env_guest (&env, GUEST_WRITE, 0, CS, 0x11);
    hook_set (fake_hook (&env.s->target->fake, i), break_and_change, NULL);
    CHECK_EQ (env_view (&env, 0, SIZE), EIO);
    env_end (&env);
  }
}

/* The source fails, but all that was asked for has been preserved since:
 * only clusters that are not done may fail the request.
 */
static void
change_then_fail (void *opaque)
{
  env_guest (&env, GUEST_WRITE, 0, *(uint64_t *) opaque, 0xaa);
  env.disk.fake.fail = EIO;
}

static void
test_source_fails (void)
{
  static uint64_t all = SIZE, part = 3 * CS;

  env_start (&env, SIZE, CS, 1);
  hook_set (&env.disk.fake.after, change_then_fail, &all);
  CHECK (env_view (&env, 0, SIZE) == 0);
  CHECK_EQ (env.s->entry.state, CBW_SNAPSHOT_LIVE);
  env_end (&env);

  env_start (&env, SIZE, CS, 1);
  hook_set (&env.disk.fake.after, change_then_fail, &part);
  CHECK_EQ (env_view (&env, 0, SIZE), EIO);
  /* This request alone; the snapshot is whole. */
  CHECK (env_view (&env, 0, 3 * CS) == 0);
  env.disk.fake.fail = 0;
  CHECK (env_view (&env, 0, SIZE) == 0);
  env_end (&env);
}

static void
test_target_fails (void)
{
  env_start (&env, SIZE, CS, 1);
  env_guest (&env, GUEST_WRITE, 0, CS, 0xaa);
  env.s->target->fake.fail = ENXIO;
  CHECK_EQ (env_view (&env, 0, SIZE), EIO);
  CHECK (env_view (&env, CS, SIZE - CS) == 0);
  env_end (&env);
}

static void
test_ranges (void)
{
  unsigned char c;

  env_start (&env, SIZE, CS, 1);
  CHECK_EQ (serve_read (&env.engine, &env.source.image, 99, &c, 1, 0),
            ESHUTDOWN);
  CHECK_EQ (serve_read (&env.engine, &env.source.image, ENV_SNAPSHOT_ID, &c,
                        0, 0),
            EINVAL);
  CHECK_EQ (env_view (&env, SIZE, 1), EINVAL);
  CHECK_EQ (env_view (&env, SIZE - 1, 2), EINVAL);
  CHECK_EQ (serve_read (&env.engine, &env.source.image, ENV_SNAPSHOT_ID, &c, 2,
                       UINT64_MAX), EINVAL);
  CHECK_EQ (serve_read (&env.engine, &env.source.image, ENV_SNAPSHOT_ID, &c,
                       UINT64_MAX, 1), EINVAL);
  CHECK_EQ (env.disk.fake.reads, 0);
  env_end (&env);
}

static void
test_access (void)
{
  struct cbw_extent extents[CBW_EXTENTS_MAX];
  uint32_t nr;

  env_start (&env, SIZE, CS, 1);
  bitmap_clear (&env.s->snap->view.access, 3, 4);
  CHECK (env_view (&env, 0, 3 * CS) == 0);
  CHECK (env_view (&env, 4 * CS, SIZE - 4 * CS) == 0);
  CHECK_EQ (env_view (&env, 3 * CS - 1, 2), EPERM);
  CHECK_EQ (env_view (&env, 4 * CS - 1, 1), EPERM);
  /* A hole of unknown content, so that tools that look do not read it. */
  CHECK_EQ (serve_extents (&env.engine, &env.source.image, ENV_SNAPSHOT_ID, CS,
                          3 * CS, true, extents, &nr), 0);
  CHECK_EQ (nr, 1);
  CHECK_EQ (extents[0].length, CS);
  CHECK_EQ (extents[0].type, CBW_EXTENT_HOLE);
  env_guest (&env, GUEST_WRITE, 0, SIZE, 0xaa);
  CHECK_EQ (env_view (&env, 3 * CS, 1), EPERM);
  CHECK (env_view (&env, 0, 3 * CS) == 0);
  env_end (&env);
}

/* ---- Extents ---- */

/* All of them, call by call. */
static void
check_all_extents (void)
{
  uint64_t offset = 0, length;

  for (; offset < SIZE; offset += length)
    CHECK (env_view_extents (&env, offset, SIZE - offset, &length) == 0);
}

static void
test_extents (void)
{
  struct cbw_extent *x = malloc (CBW_SLOT_BUFFER_SIZE);
  uint32_t nr;

  env_start (&env, SIZE, CS, 1);
  check_all_extents ();
  /* Over data and over zeroes, so some come from the target. */
  env_guest (&env, GUEST_WRITE, 0, 5 * CS, 0xaa);
  env_guest (&env, GUEST_ZERO, 6 * CS, SIZE - 6 * CS, 0);
  check_all_extents ();

  CHECK (serve_extents (&env.engine, &env.source.image, ENV_SNAPSHOT_ID,
                        4 * CS, 0,
                       true, x, &nr) == 0);
  CHECK_EQ (nr, 3);
  CHECK (x[0].type == 0 && x[0].length == CS);
  CHECK (x[1].type == (CBW_EXTENT_HOLE | CBW_EXTENT_ZERO) &&
         x[1].length == CS);
  CHECK (x[2].type == 0 && x[2].length == 2 * CS);

  /* A source that knows of no extents is data; targets still know. */
  CHECK (serve_extents (&env.engine, &env.source.image, ENV_SNAPSHOT_ID, SIZE,
                        0,
                       false, x, &nr) == 0);
  CHECK (x[0].type == 0 && x[1].type != 0);
  env_end (&env);
  free (x);
}

/* In mid-call data becomes zeroes, and zeroes data. */
static void
test_extents_and_change (void)
{
  uint64_t length;
  unsigned i;

  for (op = GUEST_WRITE; op <= GUEST_TRIM; ++op)
    for (i = 0; i < 3; ++i) {
      env_start (&env, SIZE, CS, 1);
      hook_set (fake_hook (&env.disk.fake, i), change_all, NULL);
      CHECK (env_view_extents (&env, 0, SIZE, &length) == 0);
      CHECK (length > 0);
      check_all_extents ();
      env_end (&env);
    }
}

/* Whatever the source says, it is asked once. */
static void
test_extents_fail (void)
{
  uint64_t length;

  env_start (&env, SIZE, CS, 1);
  env.disk.fake.fail = EAGAIN;
  CHECK_EQ (env_view_extents (&env, 0, SIZE, &length), EAGAIN);
  CHECK_EQ (env.disk.fake.extents, 1);
  env_end (&env);
}

/* More extents than fit in a reply: cut, not wrong. */
static void
test_many_extents (void)
{
  const uint64_t cs = 4 * K, size = (CBW_EXTENTS_MAX + 100) * cs;
  uint64_t c, length;

  env_start (&env, size, cs, 1);
  for (c = 0; c < CBW_EXTENTS_MAX + 100; ++c)
    memset (env.disk.fake.data + c * cs, c % 2, cs);
  memcpy (env.s->old, env.disk.fake.data, size);
  env_guest (&env, GUEST_WRITE, 0, size, 0xaa);
  CHECK (env_view_extents (&env, 0, size, &length) == 0);
  CHECK_EQ (length, CBW_EXTENTS_MAX * cs);
  CHECK (env_view_extents (&env, length, size - length, &length) == 0);
  CHECK_EQ (length, 100 * cs);
  env_end (&env);
}

int
main (void)
{
  unit_start ();
  RUN (test_untouched);
  RUN (test_all_done);
  RUN (test_mixed);
  RUN (test_change_in_mid_read);
  RUN (test_read_in_mid_copy);
  RUN (test_change_in_mid_target_read);
  RUN (test_break_in_mid_read);
  RUN (test_source_fails);
  RUN (test_target_fails);
  RUN (test_ranges);
  RUN (test_access);
  RUN (test_extents);
  RUN (test_extents_and_change);
  RUN (test_extents_fail);
  RUN (test_many_extents);
  return unit_end ();
}
