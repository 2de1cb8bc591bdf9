/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups: the target becomes the disk as it was, each cluster is written
 * once, whoever else is in the chain, and errors do what the policy says.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "backup/settle.h"
#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "unit.h"
#include "utils/clock.h"

#define K 1024
#define CS (4 * K)
#define CLUSTERS 300

static struct env env;

/* ---- Helpers ---- */

static void
start (void)
{
  env_start_bare (&env, CLUSTERS * CS + 77, CS, 1);
}

static void
end (void)
{
  env_end (&env);
}

static uint32_t
fill_state (unsigned i)
{
  return atomic_load (&env.s[i].entry.job.state);
}

static void
wait_state (unsigned i, uint32_t state)
{
  while (fill_state (i) != state)
    usleep (200);
}

static int
control (unsigned i, enum cbw_job_action action, uint64_t speed)
{
  struct error e;

  return fill_control (&env.engine.fill, ENV_ID (i), action, speed, &e) == 0 ?
    0 : e.num;
}

/* It is complete, as long as it is not dropped: the image is the disk as it
 * was, zeroes were left out, and nothing was written twice.
 */
static void
check_image (unsigned i)
{
  const struct env_snapshot *s = &env.s[i];
  const struct fake_target *t = s->target;
  uint64_t c, b;

  CHECK_EQ (fill_state (i), CBW_JOB_COMPLETE);
  CHECK (memcmp (t->fake.data, s->old, s->entry.size) == 0);
  CHECK_EQ (t->rewrites, 0);
  CHECK (t->flushes > 0);
  CHECK_EQ (s->entry.copied_clusters + s->entry.job.moved_clusters,
            CLUSTERS + 1);
  for (c = 0; c < CLUSTERS; ++c) {
    for (b = 0; b < CS && s->old[c * CS + b] == 0; ++b)
      ;
    CHECK_EQ (t->written[c * CS], b < CS);
  }
  for (c = 0; c < s->done.nbits; ++c)
    CHECK (bitmap_test (&s->done, c) || bitmap_test (&s->moved, c));
}

/* ---- One alone ---- */

static void
test_quiet (void)
{
  start ();
  CHECK_EQ (env_backup (&env, false), 0);
  wait_state (0, CBW_JOB_COMPLETE);
  check_image (0);
  CHECK (env_view (&env, 0, CLUSTERS * CS) == 0);
  /* Nothing is copied any more. */
  env.disk.fake.reads = 0;
  env_guest (&env, GUEST_WRITE, 0, CLUSTERS * CS, 0xaa);
  CHECK_EQ (env.disk.fake.reads, 0);
  CHECK (env_view (&env, 0, CLUSTERS * CS) == 0);
  check_image (0);
  end ();
}

/* What guests have copied the fill does not. */
static void
test_guests_first (void)
{
  start ();
  env_backup (&env, true);
  env_guest (&env, GUEST_WRITE, 5 * CS + 1, 9 * CS, 0xaa);
  env_guest (&env, GUEST_TRIM, 100 * CS, 100 * CS, 0);
  CHECK_EQ (env.s[0].entry.job.bytes, 0);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_COMPLETE);
  check_image (0);
  CHECK (env.s[0].entry.job.bytes <= (CLUSTERS - 110) * CS + 77);
  end ();
}

/* A disk that is a hole but for its ends is not read. */
static void
test_holes (void)
{
  start ();
  memset (env.disk.fake.data + 10 * CS + 99, 0, 280 * CS);
  env_backup (&env, false);
  wait_state (0, CBW_JOB_COMPLETE);
  check_image (0);
  CHECK (env.s[0].entry.job.bytes <= 200 * CS);
  end ();
}

/* A guest's change of what the fill is copying waits for it. */
static pthread_t other;
static _Atomic (int) stage;

static void *
write_all (void *unused)
{
  (void) unused;
  env_guest (&env, GUEST_WRITE, 0, CLUSTERS * CS, 0xbb);
  atomic_store (&stage, 2);
  return NULL;
}

static void
write_meanwhile (void *unused)
{
  (void) unused;
  atomic_store (&stage, 1);
  pthread_create (&other, NULL, write_all, NULL);
  unit_give_time ();
  CHECK_EQ (atomic_load (&stage), 1);
}

static void
test_guest_waits (void)
{
  unsigned i;

  for (i = 0; i < 3; ++i) {
    start ();
    env_backup (&env, true);
    hook_set (i == 0 ? &env.s[0].target->fake.before : i == 1 ?
              &env.s[0].target->fake.amid : &env.s[0].target->fake.after,
              write_meanwhile, NULL);
    CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
    wait_state (0, CBW_JOB_COMPLETE);
    pthread_join (other, NULL);
    CHECK_EQ (atomic_load (&stage), 2);
    check_image (0);
    end ();
  }
}

/* ... but for no longer than its snapshot's time limit. */
static _Atomic (bool) waiting;

static void
write_in_time (void *unused)
{
  (void) unused;
  env_guest (&env, GUEST_WRITE, 0, CLUSTERS * CS, 0xcc);
  atomic_store (&waiting, false);
}

static void
test_guest_gives_up (void)
{
  start ();
  env_backup (&env, true);
  env.s[0].snap->fixed.options.timeout_ns = 20 * NS_PER_MS;
  hook_set (&env.s[0].target->fake.amid, write_in_time, NULL);
  atomic_store (&waiting, true);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_FAILED);
  while (atomic_load (&waiting))
    usleep (200);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env.s[0].entry.job.error_num, ETIMEDOUT);
  end ();
}

/* ---- With others in the chain ---- */

/* The fill is under way: a snapshot is taken, and the guest writes
 * everything.  What it overwrites first goes to that one, and must come
 * from there.
 */
static void
create_and_write (void *unused)
{
  (void) unused;
  env_create (&env, env.disk.fake.size);
  pthread_create (&other, NULL, write_all, NULL);
  unit_give_time ();            /* as far as it gets */
}

static void
test_create_meanwhile (void)
{
  unsigned i;

  for (i = 0; i < 3; ++i) {
    start ();
    env_backup (&env, true);
    hook_set (i == 0 ? &env.disk.fake.amid : i == 1 ?
              &env.s[0].target->fake.before : &env.s[0].target->fake.after,
              create_and_write, NULL);
    CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
    wait_state (0, CBW_JOB_COMPLETE);
    pthread_join (other, NULL);
    check_image (0);
    CHECK (env_view_of (&env, 0, 0, CLUSTERS * CS) == 0);
    CHECK (env_view_of (&env, 1, 0, CLUSTERS * CS) == 0);
    end ();
  }
}

/* A piece of two claims, since a guest has copied what is in the middle.
 * While the first is copied a snapshot is taken, and what the second will
 * claim is overwritten: the chain is looked at with each claim.
 */
static void
create_between (void *unused)
{
  (void) unused;
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_WRITE, 60 * CS, 20 * CS, 0xbb);
}

static void
test_create_between_claims (void)
{
  start ();
  env_backup (&env, true);
  env_guest (&env, GUEST_WRITE, 50 * CS, CS, 0xaa);
  env_guest (&env, GUEST_WRITE, 100 * CS, 201 * CS + 77 - CS, 0xaa);
  hook_set (&env.s[0].target->fake.before, create_between, NULL);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_COMPLETE);
  CHECK_EQ (env.s[0].entry.job.moved_clusters, 20);
  check_image (0);
  end ();
}

/* Older and newer ones, and what guests did between them. */
static void
test_middle (void)
{
  uint64_t c;

  start ();
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_WRITE, 10 * CS, 40 * CS, 0xaa);
  env_backup (&env, true);
  env_guest (&env, GUEST_WRITE, 30 * CS, 40 * CS, 0xbb);
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_TRIM, 60 * CS, 100 * CS, 0);
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_WRITE, 0, 200 * CS, 0xcc);
  env_drop (&env, 2);
  CHECK (control (1, CBW_JOB_RESUME, 0) == 0);
  wait_state (1, CBW_JOB_COMPLETE);
  check_image (1);
  CHECK_EQ (env.s[1].entry.job.moved_clusters, 200 - 40);
  /* Done bits say what they said: only what the source had is new. */
  for (c = 0; c < CLUSTERS; ++c)
    CHECK_EQ (bitmap_test (&env.s[1].done, c),
              (c >= 30 && c < 70) || c >= 200);
  for (c = 0; c < 4; ++c)
    if (c != 2)
      CHECK (env_view_of (&env, (unsigned) c, 0, CLUSTERS * CS) == 0);
  env_guest (&env, GUEST_WRITE, 0, CLUSTERS * CS, 0xee);

  /* The older one does not look through its image, so it may go. */
  env_drop (&env, 1);
  CHECK_EQ (env_state (&env, 1), CBW_SNAPSHOT_EMPTY);
  CHECK (env_view_of (&env, 0, 0, CLUSTERS * CS) == 0);
  CHECK (env_view_of (&env, 3, 0, CLUSTERS * CS) == 0);
  end ();
}

/* A reader of an older snapshot has found who holds a cluster, and that
 * does not change, or its copy be punched, under it.
 */
static void
settle_and_drop (void *unused)
{
  (void) unused;
  CHECK (control (1, CBW_JOB_RESUME, 0) == 0);
  wait_state (1, CBW_JOB_COMPLETE);
  check_image (1);
  env_drop (&env, 2);           /* the complete one leaves, too */
}

static void
test_reader_of_newer (void)
{
  start ();
  env_create (&env, env.disk.fake.size);
  env_backup (&env, true);
  env_create (&env, env.disk.fake.size);
  env_guest (&env, GUEST_WRITE, 0, 20 * CS, 0xaa);
  hook_set (&env.s[2].target->fake.before, settle_and_drop, NULL);
  CHECK (env_view_of (&env, 0, 0, 20 * CS) == 0);
  CHECK (env_view_of (&env, 0, 0, 20 * CS) == 0);
  CHECK_EQ (env_view_of (&env, 1, 0, 20 * CS), ESHUTDOWN);
  end ();
}

static void
test_drop (void)
{
  start ();
  env_backup (&env, true);
  CHECK (control (0, CBW_JOB_SPEED, 1) == 0);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  env_drop (&env, 0);
  while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
    usleep (200);
  CHECK_EQ (control (0, CBW_JOB_PAUSE, 0), ENOENT);
  env_create (&env, env.disk.fake.size);
  CHECK_EQ (control (1, CBW_JOB_PAUSE, 0), EINVAL);
  end ();
}

static void *
drop_thread (void *opaque)
{
  struct error e;

  (void) opaque;
  CHECK (drop_snapshot (&env.engine, &env.segment, ENV_ID (0), false, 0, &e) == 0);
  return NULL;
}

/* A backup becomes complete while a drop of it waits for the gate: nobody
 * wants its result, so its entry is free.
 */
static void
test_complete_in_drop (void)
{
  struct table *const table = &env.engine.table;
  char name[CBW_NAME_MAX];
  pthread_t thread;
  unsigned stripe;

  start ();
  env_backup (&env, true);
  table_attach (table, &env.s[0].entry);
  table_adopt (table, 0, &env.s[0].snap->fixed, TABLE_USED, false);
  stripe = gate_enter (&env.engine.gate);
  CHECK (pthread_create (&thread, NULL, drop_thread, NULL) == 0);
  while (!atomic_load (&env.engine.gate.closed))
    usleep (50);
  CHECK (snapshot_complete (env.s[0].snap, false));
  gate_leave (&env.engine.gate, stripe);
  pthread_join (thread, NULL);
  CHECK (!table_result (table, ENV_ID (0), name));
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_EMPTY);
  end ();
}

/* ---- Errors ---- */

static void
policy (unsigned i, uint8_t source, uint8_t target)
{
  env.s[i].snap->fixed.options.on_source_error = source;
  env.s[i].snap->fixed.options.on_target_error = target;
}

static void
test_report (void)
{
  unsigned read;

  for (read = 0; read < 2; ++read) {
    start ();
    env_backup (&env, true);
    atomic_store (read ? &env.disk.fake.fail :
                  &env.s[0].target->fake.fail_writes, EIO);
    CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
    wait_state (0, CBW_JOB_FAILED);
    CHECK_EQ (env.s[0].entry.job.error_num, EIO);
    CHECK_EQ (env.s[0].entry.job.error_is_read, read);
    /* Guests are not to copy for it, nor to fail because of it. */
    while (env_state (&env, 0) == CBW_SNAPSHOT_LIVE)
      usleep (100);
    CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
    CHECK_EQ (control (0, CBW_JOB_RESUME, 0), EALREADY);
    end ();
  }
}

static void
test_stop (void)
{
  int r;

  start ();
  env_backup (&env, true);
  policy (0, CBW_FILL_REPORT, CBW_FILL_ENOSPC);
  atomic_store (&env.s[0].target->fake.fail_writes, ENOSPC);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_STOPPED);
  CHECK_EQ (env.s[0].entry.job.error_num, ENOSPC);
  CHECK_EQ (control (0, CBW_JOB_PAUSE, 0), 0);
  CHECK_EQ (fill_state (0), CBW_JOB_STOPPED);
  atomic_store (&env.s[0].target->fake.fail_writes, EIO);
  /* Another thread may yet report the full target of before. */
  while (fill_state (0) != CBW_JOB_FAILED) {
    r = control (0, CBW_JOB_RESUME, 0);
    CHECK (r == 0 || r == EALREADY);
    usleep (200);
  }
  CHECK_EQ (env.s[0].entry.job.error_num, ENOSPC); /* the first */
  end ();
}

static void
test_ignore (void)
{
  uint64_t n;

  start ();
  env_backup (&env, true);
  policy (0, CBW_FILL_IGNORE, CBW_FILL_IGNORE);
  atomic_store (&env.disk.fake.fail, EIO);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  while (atomic_load (&env.s[0].entry.job.errors) < 2)
    usleep (200);
  CHECK_EQ (fill_state (0), CBW_JOB_RUNNING);
  atomic_store (&env.disk.fake.fail, 0);
  wait_state (0, CBW_JOB_COMPLETE);
  check_image (0);
  n = env.s[0].entry.copied_clusters;
  CHECK_EQ (n, CLUSTERS + 1);
  end ();
}

/* What could not be synced is not complete, whatever the policy: the next
 * try would succeed without the data.
 */
static void
test_flush_fails (void)
{
  start ();
  env_backup (&env, true);
  policy (0, CBW_FILL_IGNORE, CBW_FILL_IGNORE);
  atomic_store (&env.s[0].target->fail_flush, EIO);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_FAILED);
  end ();
}

/* A guest's copy breaks the snapshot: it never gets complete. */
static void
test_broken (void)
{
  start ();
  env_backup (&env, true);
  CHECK (control (0, CBW_JOB_SPEED, 1) == 0);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  atomic_store (&env.s[0].target->fake.fail_writes, ENOSPC);
  env_guest (&env, GUEST_WRITE, 290 * CS, 1, 0xaa);
  atomic_store (&env.s[0].target->fake.fail_writes, 0);
  fill_wake (&env.engine.fill);
  wait_state (0, CBW_JOB_FAILED);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env.s[0].entry.job.error_num, ENOSPC);
  CHECK_EQ (env.s[0].target->flushes, 0);
  end ();
}

/* The last moment: broken or dropped while it is synced, it is not complete. */
static void
lose_it (void *opaque)
{
  if (*(bool *) opaque)
    snapshot_break (env.s[0].snap, CBW_BROKEN_TARGET, ESTALE, 0, "test");
  else
    env_drop (&env, 0);
}

static void
test_lost_in_flush (void)
{
  static bool lose[] = { false, true };
  unsigned i;

  for (i = 0; i < 2; ++i) {
    start ();
    env_backup (&env, true);
    hook_set (&env.s[0].target->fake.in_flush, lose_it, &lose[i]);
    CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
    if (lose[i])
      wait_state (0, CBW_JOB_FAILED);
    else
      while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
        usleep (200);
    CHECK (fill_state (0) != CBW_JOB_COMPLETE);
    end ();
  }
}

/* ---- Speed ---- */

static void
test_speed (void)
{
  const uint64_t speed = 2000 * K, begin = now_monotonic_ns ();
  uint64_t ns;

  start ();
  env_backup (&env, true);
  CHECK (control (0, CBW_JOB_SPEED, speed) == 0);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  wait_state (0, CBW_JOB_COMPLETE);
  ns = now_monotonic_ns () - begin;
  /* A third are zeroes, but known only when they were read; and some bytes
   * are given in advance.
   */
  CHECK (ns > 300 * NS_PER_MS);
  check_image (0);
  end ();

  start ();
  env_backup (&env, true);
  CHECK (control (0, CBW_JOB_SPEED, 1) == 0);
  CHECK (control (0, CBW_JOB_RESUME, 0) == 0);
  unit_give_time ();
  CHECK_EQ (fill_state (0), CBW_JOB_RUNNING);
  CHECK (env.s[0].entry.job.bytes <= 4 * CS);
  CHECK (control (0, CBW_JOB_SPEED, 0) == 0);
  wait_state (0, CBW_JOB_COMPLETE);
  check_image (0);
  end ();
}

/* ---- All at once ---- */

static _Atomic (bool) over;

static void *
busy_guest (void *opaque)
{
  uint64_t seed = (uintptr_t) opaque, at, len;

  while (!atomic_load (&over)) {
    at = unit_random (&seed) % (CLUSTERS * CS);
    len = 1 + unit_random (&seed) % (10 * CS);
    if (len > CLUSTERS * CS - at)
      len = CLUSTERS * CS - at;
    env_guest (&env, unit_random (&seed) % 3 ? GUEST_WRITE : GUEST_TRIM, at,
               len, (unsigned char) seed);
  }
  return NULL;
}

static void *
busy_reader (void *opaque)
{
  uint64_t seed = (uintptr_t) opaque, at;

  while (!atomic_load (&over)) {
    at = unit_random (&seed) % (CLUSTERS * CS);
    CHECK (env_view_of (&env, (unsigned) (unit_random (&seed) % 2), at,
                        1 + unit_random (&seed) % (CLUSTERS * CS - at)) == 0);
  }
  return NULL;
}

static void
test_all_at_once (void)
{
  pthread_t threads[4];
  struct snapshot *backup;
  unsigned round, i;

  for (round = 0; round < 12; ++round) {
    start ();
    env_create (&env, env.disk.fake.size);
    env_guest (&env, GUEST_WRITE, 20 * CS, 30 * CS, 0xaa);
    env_backup (&env, true);
    backup = env.s[1].snap;
    snapshot_ref (backup);      /* it may be complete before another goes */
    if (round % 2)
      env_guest (&env, GUEST_WRITE, 40 * CS, 30 * CS, 0xbb);
    CHECK (control (1, CBW_JOB_SPEED, 3000 * K) == 0);
    CHECK (control (1, CBW_JOB_RESUME, 0) == 0);
    atomic_store (&over, false);
    for (i = 0; i < 4; ++i)
      pthread_create (&threads[i], NULL, i < 2 ? busy_guest : busy_reader,
                      (void *) (uintptr_t) (round * 4 + i + 1));
    usleep (2000);
    atomic_store (&over, true);
    for (i = 0; i < 2; ++i)
      pthread_join (threads[i], NULL);
    if (round % 3) {            /* "old" is what the disk has now */
      env_create (&env, env.disk.fake.size);
      env_create (&env, env.disk.fake.size);
    }
    atomic_store (&over, false);
    for (i = 0; i < 2; ++i)
      pthread_create (&threads[i], NULL, busy_guest,
                      (void *) (uintptr_t) (round * 4 + i + 100));
    usleep (5000);
    if (round % 3 == 2)
      env_drop (&env, 2);
    i = (unsigned) control (1, CBW_JOB_SPEED, 0);
    CHECK (i == 0 || i == EALREADY || i == ENOENT); /* it may have left */
    wait_state (1, CBW_JOB_COMPLETE);
    atomic_store (&over, true);
    for (i = 0; i < 4; ++i)
      pthread_join (threads[i], NULL);
    check_image (1);
    snapshot_unref (backup);
    CHECK (env_view_of (&env, 0, 0, CLUSTERS * CS) == 0);
    if (round % 3)
      CHECK (env_view_of (&env, 3, 0, CLUSTERS * CS) == 0);
    end ();
  }
}

static _Atomic (bool) overwritten;

static void *
overwrite_all (void *opaque)
{
  uint64_t c;

  (void) opaque;
  for (c = 0; c < CLUSTERS; ++c)
    env_guest (&env, GUEST_WRITE, c * CS, 1, 0x11);
  atomic_store (&overwritten, true);
  return NULL;
}

/* What is not settled is looked for while a guest copies it: what was not at
 * the first look may be at the second.
 */
static void
test_look_twice (void)
{
  struct settle s;
  pthread_t guest;
  struct error e;
  unsigned n, i;

  for (n = 0; n < 100; ++n) {
    start ();
    i = env_backup (&env, true);
    s = (struct settle) {
      .chain = &env.engine.chain, .copier = &env.engine.copier,
      .source = &env.engine.source.image, .snap = env.s[i].snap,
    };
    atomic_store (&overwritten, false);
    CHECK (pthread_create (&guest, NULL, overwrite_all, NULL) == 0);
    while (!atomic_load (&overwritten)) /* there are no holes: it only looks */
      settle_range (&s, 0, CLUSTERS, true, &e);
    pthread_join (guest, NULL);
    settle_held (&s, 0, CLUSTERS + 1);
    CHECK (bitmap_all_set (&env.s[i].done, 0, CLUSTERS + 1));
    end ();
  }
}

int
main (void)
{
  unit_start ();
  RUN (test_look_twice);
  RUN (test_quiet);
  RUN (test_guests_first);
  RUN (test_holes);
  RUN (test_guest_waits);
  RUN (test_guest_gives_up);
  RUN (test_create_meanwhile);
  RUN (test_create_between_claims);
  RUN (test_middle);
  RUN (test_reader_of_newer);
  RUN (test_drop);
  RUN (test_complete_in_drop);
  RUN (test_report);
  RUN (test_stop);
  RUN (test_ignore);
  RUN (test_flush_fails);
  RUN (test_broken);
  RUN (test_lost_in_flush);
  RUN (test_speed);
  RUN (test_all_at_once);
  return unit_end ();
}
