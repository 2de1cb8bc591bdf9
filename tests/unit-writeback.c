/* SPDX-License-Identifier: BSD-3-Clause */

/* The write-back buffer: guests wait for it only, views are right wherever
 * old data is, and it is brought to the target, or of no use any more.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "service/serve-read.h"
#include "unit.h"
#include "utils/clock.h"
#include "writeback/writeback-private.h"

#define CS 4096
#define CLUSTERS 201

static struct env env;

/* A door in a target's writes, which stands open or not; not for the main
 * thread, which reads there.
 */
static pthread_t main_thread;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t opened;
  bool closed;
  _Atomic (unsigned) waiting;
  unsigned target;
} door = {
  .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER
};

static void
pass (void *opaque)
{
  hook_set (&env.s[door.target].target->fake.before, pass, opaque);
  if (pthread_equal (pthread_self (), main_thread))
    return;
  pthread_mutex_lock (&door.lock);
  door.waiting++;
  while (door.closed)
    pthread_cond_wait (&door.opened, &door.lock);
  door.waiting--;
  pthread_mutex_unlock (&door.lock);
}

static void
close_door (unsigned i)
{
  door.target = i;
  door.closed = true;
  hook_set (&env.s[i].target->fake.before, pass, NULL);
}

static void
open_door (void)
{
  pthread_mutex_lock (&door.lock);
  door.closed = false;
  pthread_cond_broadcast (&door.opened);
  pthread_mutex_unlock (&door.lock);
}

/* With nobody to empty the buffer. */
static void
start_full (uint32_t nr_cells)
{
  env_start_bare (&env, CLUSTERS * CS - 5, CS, 1);
  env_buffer (&env, nr_cells);
  env_create (&env, env.disk.fake.size);
}

static void
start (uint32_t nr_cells)
{
  start_full (nr_cells);
  env_drain (&env);
}

static void
end (void)
{
  env_end (&env);
}

static void
change (uint64_t cluster, uint64_t n)
{
  const uint64_t end = cluster + n == CLUSTERS ? env.disk.fake.size :
    (cluster + n) * CS;

  env_guest (&env, GUEST_WRITE, cluster * CS, end - cluster * CS, 0x99);
}

/* A thread stands at the door with these clusters, or some of them. */
static void
change_and_wait (uint64_t cluster, uint64_t n)
{
  change (cluster, n);
  while (door.waiting == 0)
    usleep (200);
}

static void
wait_drained (void)
{
  while (env_buffered (&env) > 0)
    usleep (200);
}

static void
check_view (unsigned i)
{
  uint64_t length;

  CHECK_EQ (env_view_of (&env, i, 0, env.s[i].snap->view.size), 0);
  CHECK_EQ (env_view_of (&env, i, 3 * CS + 7, 5 * CS), 0);
  CHECK_EQ (env_view_extents_of (&env, i, 0, env.s[i].snap->view.size, &length),
            0);
}

static bool
is_written (unsigned i, uint64_t cluster)
{
  return env.s[i].target->written[cluster * CS];
}

/* ---- Tests ---- */

static void
test_guest_does_not_wait (void)
{
  start (64);
  close_door (0);
  change_and_wait (0, 10);
  change (20, 1);
  change (CLUSTERS - 1, 1);     /* the last, not whole */
  CHECK_EQ (env_buffered (&env), 7 + 1 + 1); /* every third is zero */
  CHECK (bitmap_all_set (&env.s[0].done, 0, 10));
  check_view (0);
  open_door ();
  wait_drained ();
  CHECK (env_done (&env, 0) && env_done (&env, 20) &&
         env_done (&env, CLUSTERS - 1));
  CHECK_EQ (env.s[0].target->rewrites, 0);
  check_view (0);
  end ();
}

/* All drain threads stand at the door: the buffer stays full. */
static void
fill_buffer (uint64_t cells)
{
  uint64_t c, n = 0;

  for (c = 0; n < DRAIN_THREADS_FILE; c += 3, ++n) {
    change (c, 1);
    while (door.waiting < n + 1)
      usleep (200);
  }
  for (; n < cells; c += 3, ++n)
    change (c, 1);
  CHECK_EQ (env_buffered (&env), cells);
}

static void *
guest_thread (void *opaque)
{
  change (*(uint64_t *) opaque, 1);
  return NULL;
}

static void
test_full (void)
{
  uint64_t c = 150;
  pthread_t thread;

  start (16);
  close_door (0);
  fill_buffer (16);
  CHECK (pthread_create (&thread, NULL, guest_thread, &c) == 0);
  while (door.waiting < DRAIN_THREADS_FILE + 1) /* it writes by itself */
    usleep (200);
  CHECK (!bitmap_test (&env.s[0].done, c));
  check_view (0);
  open_door ();
  pthread_join (thread, NULL);
  wait_drained ();
  check_view (0);
  CHECK_EQ (env.s[0].target->rewrites, 0);
  change (160, 30);             /* more than the buffer has */
  check_view (0);
  end ();
}

static void
test_neighbours_together (void)
{
  start (64);
  close_door (0);
  fill_buffer (DRAIN_THREADS_FILE);
  /* From the middle to both sides, and one that is zero between. */
  change (110, 1);
  change (108, 1);
  change (107, 1);
  change (111, 1);
  change (109, 1);
  open_door ();
  wait_drained ();
  CHECK_EQ (env.s[0].target->fake.writes, DRAIN_THREADS_FILE + 2);
  CHECK (env_done (&env, 107) && env_done (&env, 108) &&
         env_done (&env, 110) && env_done (&env, 111));
  end ();
}

static void
test_write_fails (void)
{
  unsigned i;

  start (64);
  change (0, 1);                /* snapshot 0 has its own copy of this */
  wait_drained ();
  env_create (&env, env.disk.fake.size);
  env_create (&env, env.disk.fake.size);
  for (i = 0; i < 3; ++i)
    CHECK_EQ (env_state (&env, i), CBW_SNAPSHOT_LIVE);
  atomic_store (&env.s[2].target->fake.fail_writes, EIO);
  change (0, 1);                /* 0 does not look for it in 2's */
  wait_drained ();
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_LIVE);
  CHECK_EQ (env_state (&env, 1), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env_state (&env, 2), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env.s[1].entry.error_num, EIO);
  CHECK_EQ (env.s[2].entry.error_reason, CBW_BROKEN_COPY);
  CHECK_EQ (env_view_of (&env, 2, 50 * CS, CS), EIO);
  check_view (0);
  change (8, 1);                /* to its own, as the others are broken */
  wait_drained ();
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_LIVE);
  check_view (0);
  atomic_store (&env.s[0].target->fake.fail_writes, EIO);
  change (9, 1);
  wait_drained ();
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
  change (11, 1);               /* for nobody */
  CHECK_EQ (env_buffered (&env), 0);
  end ();
}

/* What is copied before the snapshot is in the chain: a drain thread would find
 * that nobody reads it.
 */
static void
test_copied_at_the_cut (void)
{
  static struct cbw_inflight records[CBW_NR_INFLIGHT];
  struct inflight *f = &env.engine.inflight;

  start_full (64);
  records[0] = (struct cbw_inflight) {
    .state = CBW_INFLIGHT_SUSPECT, .offset = 20 * CS, .count = CS
  };
  f->records = records;
  atomic_store (&f->nr_suspects, 1);
  env_create (&env, env.disk.fake.size);
  CHECK_EQ (env_buffered (&env), 0);
  CHECK (is_written (1, 20));
  env.disk.fake.data[20 * CS]++; /* it lands */
  env_drain (&env);
  check_view (1);
  end ();
}

static bool
stalled (void)
{
  return atomic_load (&env.s[0].entry.stalled_until_ns) > 0;
}

static void
test_waits_for_space (void)
{
  start (64);
  env.s[0].snap->fixed.options.stall_ns = 60 * NS_PER_SEC;
  atomic_store (&env.s[0].target->fake.fail_writes, ENOSPC);
  change (0, 1);
  while (!stalled ())
    usleep (200);
  change (2, 1);                /* the guest goes on */
  check_view (0);
  atomic_store (&env.s[0].target->fake.fail_writes, 0);
  wait_drained ();
  while (stalled ())
    usleep (200);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_LIVE);
  CHECK (env_done (&env, 0) && env_done (&env, 2));

  env.s[0].snap->fixed.options.stall_ns = NS_PER_SEC / 20;
  atomic_store (&env.s[0].target->fake.fail_writes, ENOSPC);
  change (8, 1);
  wait_drained ();
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (env.s[0].entry.error_num, ENOSPC);
  end ();
}

/* What is discarded is not written, or punched when it has been. */
static void
test_discard (void)
{
  start (64);
  env.s[0].target->holes = true;
  close_door (0);
  fill_buffer (DRAIN_THREADS_FILE);
  change (120, 1);
  change (123, 1);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 0), 0);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 120 * CS), 0);
  CHECK_EQ (env_buffered (&env), DRAIN_THREADS_FILE + 1);
  CHECK_EQ (env_view (&env, 123 * CS, CS), 0);
  bitmap_clear (&env.s[0].punched, 0, CLUSTERS);
  open_door ();
  wait_drained ();
  CHECK (!is_written (0, 120));
  CHECK (is_written (0, 123));
  while (!bitmap_test (&env.s[0].punched, 0))
    usleep (200);
  CHECK (!bitmap_test (&env.s[0].punched, 3));
  end ();
}

/* A dropped snapshot: its cells go without being written, then it does. */
static void
test_drop (void)
{
  const uint64_t *written;

  start (64);
  close_door (0);
  fill_buffer (DRAIN_THREADS_FILE);
  change (120, 9);
  written = &env.s[0].target->fake.last_offset;
  env_drop (&env, 0);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN);
  CHECK (__atomic_load_n (written, __ATOMIC_RELAXED) < 120 * CS);
  open_door ();
  while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
    usleep (200);
  CHECK_EQ (env_buffered (&env), 0);
  env_create (&env, env.disk.fake.size);
  change (120, 9);
  check_view (1);
  end ();
}

/* A hidden one which an older one looks through: that needs its cells. */
static void
test_hidden (void)
{
  start (64);
  env_create (&env, env.disk.fake.size);
  close_door (1);
  change_and_wait (0, 1);
  change (20, 3);
  env_drop (&env, 1);
  check_view (0);
  open_door ();
  wait_drained ();
  CHECK (is_written (1, 20));
  check_view (0);
  end ();
}

static void *
flush_thread (void *opaque)
{
  struct image *image = opaque;
  struct error e;

  CHECK (image->ops->flush (image, &e) == 0);
  return NULL;
}

static void
test_flush (void)
{
  pthread_t thread;

  start (64);
  close_door (0);
  change_and_wait (0, 9);
  CHECK (pthread_create (&thread, NULL, flush_thread,
                         env.s[0].snap->view.store) == 0);
  unit_give_time ();
  CHECK_EQ (env.s[0].target->flushes, 0);
  open_door ();
  pthread_join (thread, NULL);
  CHECK_EQ (env.s[0].target->flushes, 1);
  CHECK (env_done (&env, 0) && env_done (&env, 8));
  end ();
}

/* A backup is filled past the buffer, and complete only when what guests
 * copied has left it.
 */
static void
test_backup (void)
{
  unsigned i;

  start (64);
  i = env_backup (&env, true);
  close_door (i);
  change_and_wait (0, 60);
  env_drop (&env, 0);
  CHECK (fill_control (&env.engine.fill, ENV_ID (i), CBW_JOB_RESUME, 0,
                       &(struct error) { 0 }) == 0);
  unit_give_time ();
  CHECK (atomic_load (&env.s[i].entry.job.state) == CBW_JOB_RUNNING);
  CHECK_EQ (env_buffered (&env), 40); /* the guest's */
  open_door ();
  while (atomic_load (&env.s[i].entry.job.state) != CBW_JOB_COMPLETE)
    usleep (200);
  CHECK_EQ (env_buffered (&env), 0);
  CHECK (memcmp (env.s[i].target->fake.data, env.s[i].old,
                 env.disk.fake.size) == 0);
  end ();
}

/* What it counts for the quota */
static void
test_held (void)
{
  struct bitmap *access;

  start_full (64);
  access = &env.s[0].access;
  env.s[0].target->holes = true;
  change (0, 4);
  CHECK_EQ (env.s[0].entry.held_bytes, 3 * CS);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 0), 0);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 0), 0);
  CHECK_EQ (env.s[0].entry.held_bytes, 2 * CS);
  bitmap_clear (access, 2, 3);  /* a discard that has just begun */
  env_drain (&env);
  wait_drained ();
  CHECK (!is_written (0, 2));
  while (atomic_load (&env.s[0].entry.held_bytes) != CS)
    usleep (200);

  close_door (0);
  change_and_wait (20, 1);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 20 * CS), 0);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 20 * CS), 0);
  open_door ();
  wait_drained ();
  while (atomic_load (&env.s[0].entry.held_bytes) != CS)
    usleep (200);
  end ();
}

/* A second copy of a cluster, of a thread that was given up. */
static void
test_twice (void)
{
  struct image *image;
  struct error e;

  start_full (64);
  image = env.s[0].snap->view.store;
  change (0, 1);
  CHECK (image->ops->pwrite (image, env.s[0].old, 3 * CS, 0, &e) == 0);
  CHECK_EQ (env_buffered (&env), 3);
  check_view (0);
  env_drain (&env);
  wait_drained ();
  CHECK_EQ (env.s[0].target->rewrites, 0);
  end ();
}

/* Nothing but the buffer refers to a snapshot that was dropped. */
static void
test_dropped_with_cells (void)
{
  start_full (64);
  change (0, 9);
  env_drop (&env, 0);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_HIDDEN);
  CHECK_EQ (env.s[0].target->fake.writes, 0);
  env_drain (&env);
  while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
    usleep (200);
  CHECK_EQ (env_buffered (&env), 0);
  end ();
}

static void
test_flush_discarded (void)
{
  struct image *image;
  struct error e;

  start_full (64);
  image = env.s[0].snap->view.store;
  change (0, 1);
  CHECK_EQ (discard_clusters (&env.engine, ENV_ID (0), CS, 0), 0);
  CHECK (image->ops->flush (image, &e) == 0);
  end ();
}

/* An older snapshot that is dropped makes room, though a thread waits for
 * some on behalf of a newer one.
 */
static void
test_stall_lets_go (void)
{
  start (64);
  env_create (&env, env.disk.fake.size);
  env.s[1].snap->fixed.options.stall_ns = 60 * NS_PER_SEC;
  atomic_store (&env.s[1].target->fake.fail_writes, ENOSPC);
  change (0, 1);
  while (atomic_load (&env.s[1].entry.stalled_until_ns) == 0)
    usleep (200);
  env_drop (&env, 0);
  while (env_state (&env, 0) != CBW_SNAPSHOT_EMPTY)
    usleep (200);
  CHECK (atomic_load (&env.s[1].entry.stalled_until_ns) > 0);
  atomic_store (&env.s[1].target->fake.fail_writes, 0);
  wait_drained ();
  check_view (1);
  end ();
}

/* One target that hangs does not keep others from theirs. */
static void
test_others_go_on (void)
{
  start (64);
  close_door (0);
  fill_buffer (10);
  env_create (&env, env.disk.fake.size);
  change (100, 5);
  while (env_buffered (&env) > 10)
    usleep (200);
  CHECK (memcmp (env.s[1].target->fake.data + 101 * CS,
                 env.s[1].old + 101 * CS, CS) == 0);
  open_door ();
  end ();
}

/* No cell goes before who needs it is broken. */
static void
test_broken_first (void)
{
  unsigned n;

  for (n = 0; n < 100; ++n) {
    start_full (64);
    atomic_store (&env.s[0].target->fake.fail_writes, EIO);
    change (0, 1);
    env_drain (&env);
    while (env_buffered (&env) > 0)
      ;
    CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_BROKEN);
    end ();
  }
}

static void
slow (void *opaque)
{
  usleep (100);
  hook_set (&env.s[0].target->fake.amid, slow, opaque);
}

/* A reader that asks nobody, and finds a cluster done and no cell, finds it in
 * the target.
 */
static void
test_target_alone (void)
{
  uint64_t c;

  start (64);
  hook_set (&env.s[0].target->fake.amid, slow, NULL);
  for (c = 0; c < CLUSTERS - 2; c += 3) {
    change (c, 2);
    while (atomic_load (&env.s[0].entry.cells) > 0)
      ;
    CHECK (env_done (&env, c)); /* compares it */
  }
  end ();
}

/* ---- In the middle of moving bytes ---- */

/* A page whose first use waits until it may go on. */
static struct { unsigned char *page; int entered[2], go[2]; } trap;

static void
trapped (int sig, siginfo_t *info, void *context)
{
  char c = 0;

  (void) context;
  if ((unsigned char *) info->si_addr < trap.page ||
      (unsigned char *) info->si_addr >= trap.page + CS) {
    signal (sig, SIG_DFL);
    return;
  }
  if (write (trap.entered[1], &c, 1) != 1 || read (trap.go[0], &c, 1) != 1 ||
      mprotect (trap.page, CS, PROT_READ | PROT_WRITE) == -1)
    abort ();
}

static void
trap_set (void)
{
  const struct sigaction act = {
    .sa_sigaction = trapped, .sa_flags = SA_SIGINFO
  };

  trap.page = mmap (NULL, CS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK (trap.page != MAP_FAILED);
  CHECK (pipe (trap.entered) == 0 && pipe (trap.go) == 0);
  CHECK (sigaction (SIGSEGV, &act, NULL) == 0);
}

static void
trap_wait (void)
{
  char c;

  CHECK (read (trap.entered[0], &c, 1) == 1);
}

static void
trap_go (pthread_t thread)
{
  CHECK (write (trap.go[1], "", 1) == 1);
  pthread_join (thread, NULL);
  signal (SIGSEGV, SIG_DFL);
  munmap (trap.page, CS);
  close (trap.entered[0]);
  close (trap.entered[1]);
  close (trap.go[0]);
  close (trap.go[1]);
}

static void *
trapped_reader (void *opaque)
{
  (void) opaque;
  CHECK_EQ (serve_read (&env.engine, &env.source.image, ENV_ID (0), trap.page,
                        CS,
                       0), 0);
  CHECK (memcmp (trap.page, env.s[0].old, CS) == 0);
  return NULL;
}

/* While it copies, the cell is emptied, and all there are are filled. */
static void
test_read_in_the_middle (void)
{
  pthread_t thread;
  uint64_t c;

  start_full (16);
  change (0, 1);
  trap_set ();
  CHECK (pthread_create (&thread, NULL, trapped_reader, NULL) == 0);
  trap_wait ();
  close_door (0);
  door.closed = false;
  env_drain (&env);
  wait_drained ();
  door.closed = true;
  for (c = 20; c < 80; ++c)
    change (c, 1);
  trap_go (thread);
  open_door ();
  end ();
}

static void *
trapped_copy (void *opaque)
{
  struct image *image = env.s[0].snap->view.store;
  struct error e;

  (void) opaque;
  CHECK (image->ops->pwrite (image, trap.page, CS, 0, &e) == 0);
  return NULL;
}

static unsigned
count_full (const struct cbw_map *m)
{
  unsigned c, full = 0;

  for (c = 0; c < m->geometry.nr_cells; ++c)
    full += atomic_load (&map_cell (m, c)->state) == CBW_CELL_FULL;
  return full;
}

/* A cell is full when all of it is there. */
static void
test_full_last (void)
{
  pthread_t thread;

  start_full (16);
  trap_set ();
  CHECK (pthread_create (&thread, NULL, trapped_copy, NULL) == 0);
  trap_wait ();
  CHECK_EQ (count_full (&env.segment.map), 0);
  trap_go (thread);
  CHECK_EQ (count_full (&env.segment.map), 1);
  end ();
}

/* ---- What another server left ---- */

/* The cells as they are, with all threads at the door, taken up by a new
 * engine with the same bits.
 */
static void
test_taken_up (void)
{
  static struct env next;
  uint64_t c;
  struct cbw_map *m;
  struct error e;
  size_t size;

  start (64);
  close_door (0);
  fill_buffer (DRAIN_THREADS_FILE);
  change (120, 9);
  change (CLUSTERS - 1, 1);

  env_start_bare (&next, CLUSTERS * CS - 5, CS, 1);
  m = &next.segment.map;
  free (m->base);
  m->geometry = env.segment.map.geometry;
  size = layout_file_size (&m->geometry, 0);
  m->base = malloc (size);
  CHECK (m->base != NULL);
  memcpy (m->base, env.segment.map.base, size);
  /* One of a snapshot that is gone, and one that cannot be. */
  for (c = 50; c < 52; ++c) {
    map_cell (m, (unsigned) c)->snapshot = ENV_ID (0) + (c == 50 ? 9 : 0);
    map_cell (m, (unsigned) c)->cluster = c == 50 ? 7 : CLUSTERS;
    atomic_store (&map_cell (m, (unsigned) c)->state, CBW_CELL_FULL);
  }
  CHECK (writeback_attach (&next.engine.writeback, m, false, &e) == 0);
  env_adopt (&next, next.disk.fake.size, CBW_SNAPSHOT_LIVE);
  for (c = 0; c < CLUSTERS; ++c)
    if (bitmap_test (&env.s[0].done, c)) {
      bitmap_set (&next.s[0].done, c, c + 1);
      memset (next.disk.fake.data + c * CS, 0x99,
              c == CLUSTERS - 1 ? CS - 5 : CS);
    }
  CHECK_EQ (env_buffered (&next), env_buffered (&env));
  CHECK_EQ (env_view (&next, 0, next.disk.fake.size), 0);
  CHECK (writeback_start (&next.engine.writeback, &e) == 0);
  while (env_buffered (&next) > 0)
    usleep (200);
  CHECK_EQ (env_view (&next, 0, next.disk.fake.size), 0);
  CHECK (env_done (&next, 0) && env_done (&next, 120) &&
         env_done (&next, CLUSTERS - 1));
  for (c = 0; c < 64; ++c)
    CHECK_EQ (atomic_load (&map_cell (m, (unsigned) c)->state),
              CBW_CELL_FREE);
  /* It takes nothing more. */
  env_guest (&next, GUEST_WRITE, 140 * CS, CS, 1);
  CHECK_EQ (env_buffered (&next), 0);
  CHECK (env_done (&next, 140));
  env_end (&next);

  open_door ();
  end ();
}

static void *
stopped_flush (void *opaque)
{
  struct image *image = opaque;
  struct error e;

  CHECK (image->ops->flush (image, &e) == -1);
  CHECK_EQ (e.num, ESHUTDOWN);
  return NULL;
}

/* A server that stops leaves in the segment what is not written. */
static void
test_stop (void)
{
  pthread_t thread;

  start (64);
  env.s[0].snap->fixed.options.stall_ns = 60 * NS_PER_SEC;
  atomic_store (&env.s[0].target->fake.fail_writes, ENOSPC);
  change (120, 9);
  while (!stalled ())
    usleep (200);
  CHECK (pthread_create (&thread, NULL, stopped_flush,
                         env.s[0].snap->view.store) == 0);
  unit_give_time ();
  writeback_stop (&env.engine.writeback);
  pthread_join (thread, NULL);
  engine_stop (&env.engine);
  CHECK (engine_join (&env.engine, now_monotonic_ns () + 30 * NS_PER_SEC));
  CHECK_EQ (count_full (&env.segment.map), 6);
  CHECK_EQ (atomic_load (&env.s[0].entry.cells), 6);
  CHECK_EQ (env_state (&env, 0), CBW_SNAPSHOT_LIVE);
  CHECK (!stalled ());
  engine_free (&env.engine);
  CHECK_EQ (atomic_load (&env.s[0].entry.cells), 6); /* they are there */
  engine_init (&env.engine);    /* for env_end to end */
  end ();
}

/* ---- All at once ---- */

#define ROUNDS 300

static void *
busy_guest (void *opaque)
{
  uint64_t seed = (uint64_t) (uintptr_t) opaque, c;
  unsigned n;

  for (n = 0; n < ROUNDS; ++n) {
    c = unit_random (&seed) % (CLUSTERS - 8);
    change (c, 1 + unit_random (&seed) % 8);
  }
  return NULL;
}

static void *
busy_reader (void *opaque)
{
  uint64_t seed = (uint64_t) (uintptr_t) opaque, c;
  unsigned n;

  for (n = 0; n < ROUNDS; ++n) {
    c = unit_random (&seed) % (CLUSTERS - 20);
    CHECK_EQ (env_view (&env, c * CS + 100, 18 * CS), 0);
  }
  return NULL;
}

static void
test_all_at_once (void)
{
  pthread_t threads[8];
  uint64_t i;

  start (24);
  hook_set (&env.s[0].target->fake.amid, slow, NULL);
  for (i = 0; i < 8; ++i)
    CHECK (pthread_create (&threads[i], NULL, i % 2 ? busy_guest : busy_reader,
                           (void *) (uintptr_t) (i + 1)) == 0);
  for (i = 0; i < 8; ++i)
    pthread_join (threads[i], NULL);
  wait_drained ();
  check_view (0);
  CHECK_EQ (env.s[0].target->rewrites, 0);
  end ();
}

int
main (void)
{
  unit_start ();
  main_thread = pthread_self ();
  RUN (test_guest_does_not_wait);
  RUN (test_full);
  RUN (test_neighbours_together);
  RUN (test_write_fails);
  RUN (test_copied_at_the_cut);
  RUN (test_waits_for_space);
  RUN (test_discard);
  RUN (test_drop);
  RUN (test_hidden);
  RUN (test_flush);
  RUN (test_backup);
  RUN (test_held);
  RUN (test_twice);
  RUN (test_dropped_with_cells);
  RUN (test_flush_discarded);
  RUN (test_stall_lets_go);
  RUN (test_others_go_on);
  RUN (test_broken_first);
  RUN (test_target_alone);
  RUN (test_read_in_the_middle);
  RUN (test_full_last);
  RUN (test_taken_up);
  RUN (test_stop);
  RUN (test_all_at_once);
  return unit_end ();
}
