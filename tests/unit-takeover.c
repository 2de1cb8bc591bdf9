/* SPDX-License-Identifier: BSD-3-Clause */

/* What a filter finds in a segment whose earlier one was killed, and what
 * it makes of it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "segment-env.h"
#include "segment/segment-server.h"
#include "segment/entry.h"
#include "service/serve-read.h"
#include "unit.h"

#define CS 4096
#define SIZE (10 * CS - 5)

static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;

static char *
target (const char *name)
{
  static char buf[4][CBW_TARGET_MAX];
  static unsigned n;

  n = (n + 1) % 4;
  snprintf (buf[n], sizeof buf[n], "%s/%s.cow", segment_env.dir, name);
  return buf[n];
}

static void
serve (void)
{
  struct error e;

  segment_env_serve (&segment, SIZE, CS);
  engine_init (&engine);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  points_attach (&engine.points, &segment, &engine.generation, true,
                 false);
  generation_attach (&engine.generation,
                     &map_header (&segment.map)->chain_generation);
  if (!segment.fresh)
    CHECK (takeover_snapshots (&engine, &segment, env.disk.fake.size,
                               &e) == 0);
  segment_env_publish (&segment);
}

/* The filter is gone, and nothing was said. */
static void
vanish (void)
{
  env_vanish (&engine, &segment);
}

static void
start (void)
{
  segment_env_start ();
  env_start_bare (&env, 12 * CS, CS, 1);
  serve ();
}

static void
end (void)
{
  vanish ();
  env_end (&env);
  CHECK (unlink (segment_env.path) == 0);
  segment_env_end ();
}

static struct cbw_snapshot *
create (const char *name, uint64_t size)
{
  struct create_params p = { .name = name, .target = target (name) };
  struct snapshot_info info;
  uint64_t held_ns;
  struct error e;

  memcpy (p.uuid, name, strlen (name));
  CHECK (create_snapshot (&engine, &segment, &p, size, &held_ns, &e) == 0);
  CHECK (entry_find (&segment.map, name, &info));
  return map_snapshot (&segment.map, info.index);
}

static struct cbw_snapshot *
find (const char *name)
{
  struct snapshot_info info;

  CHECK (entry_find (&segment.map, name, &info));
  return map_snapshot (&segment.map, info.index);
}

static void
drop (const char *name)
{
  struct error e;

  CHECK (drop_snapshot (&engine, &segment, find (name)->id, false, 0, &e) == 0);
}

static void
change (uint64_t cluster)
{
  struct guest_change write;

  CHECK_EQ (engine_guest_begin (&engine, &env.source.image, cluster * CS, 1,
                                GUEST_WRITE, NULL, &write), 0);
  env.disk.fake.data[cluster * CS]++;
  engine_guest_end (&engine, &write, false);
}

static unsigned
used (void)
{
  unsigned i, nr = 0;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    nr += map_snapshot (&segment.map, i)->state != CBW_SNAPSHOT_EMPTY;
  return nr;
}

static bool
there (const char *name)
{
  return access (target (name), F_OK) == 0;
}

static uint64_t
generation (void)
{
  return atomic_load (&map_header (&segment.map)->chain_generation);
}

/* The chain's generation is even, and larger than it was at "before". */
static void
check_generation (uint64_t *before)
{
  CHECK_EQ (generation () % 2, 0);
  CHECK (generation () > *before);
  *before = generation ();
}

/* It changes with the chain, and never begins anew; a server that died in the
 * middle of a change has left an odd one.
 */
static void
test_generation (void)
{
  uint64_t last = 0;
  struct segment other = SEGMENT_INIT;
  struct error e;

  start ();
  CHECK_EQ (generation (), 0);
  create ("a", SIZE);
  check_generation (&last);
  create ("b", SIZE);
  check_generation (&last);
  drop ("a");
  check_generation (&last);
  change (0);
  CHECK_EQ (generation (), last);
  vanish ();
  CHECK (segment_look (&other, segment_env.path, &e) == 0);
  CHECK_EQ (map_header (&other.map)->chain_generation, last);
  segment_close (&other, false);
  serve ();
  check_generation (&last);

  last++;
  atomic_store (&map_header (&segment.map)->chain_generation, last);
  vanish ();
  serve ();
  check_generation (&last);
  CHECK_EQ (find ("b")->state, CBW_SNAPSHOT_LIVE);

  /* What others write there is not believed. */
  atomic_store (&map_header (&segment.map)->chain_generation, 1);
  drop ("b");
  check_generation (&last);
  end ();
}

static _Atomic (bool) stop_looking;

static void
read_states (uint32_t states[CBW_NR_SNAPSHOTS])
{
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    states[i] = atomic_load_explicit (&map_snapshot (&segment.map, i)->state,
                                      memory_order_relaxed);
}

/* Under one generation, which is even, the same snapshots are live. */
static void *
look (void *opaque)
{
  _Atomic (uint64_t) *shared = &map_header (&segment.map)->chain_generation;
  uint32_t a[CBW_NR_SNAPSHOTS], b[CBW_NR_SNAPSHOTS];
  unsigned *seen = opaque, i;
  uint64_t before;

  while (!atomic_load (&stop_looking)) {
    before = atomic_load_explicit (shared, memory_order_acquire);
    read_states (a);
    read_states (b);
    atomic_thread_fence (memory_order_acquire);
    if (before % 2 == 1 ||
        atomic_load_explicit (shared, memory_order_relaxed) != before)
      continue;
    ++*seen;
    for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
      CHECK ((a[i] == CBW_SNAPSHOT_LIVE) == (b[i] == CBW_SNAPSHOT_LIVE));
  }
  return NULL;
}

static void
test_generation_reader (void)
{
  pthread_t reader;
  unsigned seen = 0, i;

  start ();
  create ("a", SIZE);
  atomic_store (&stop_looking, false);
  CHECK (pthread_create (&reader, NULL, look, &seen) == 0);
  for (i = 0; i < 200; ++i) {
    create ("b", SIZE);
    drop ("a");
    create ("a", SIZE);
    drop ("b");
  }
  atomic_store (&stop_looking, true);
  CHECK (pthread_join (reader, NULL) == 0);
  CHECK (seen > 0);
  drop ("a");
  end ();
}

static void
test_all_come_back (void)
{
  unsigned char old = 0, now = 0;
  uint64_t id;

  start ();
  old = env.disk.fake.data[0];
  create ("a", SIZE);
  change (0);
  id = create ("b", SIZE)->id;
  change (0);
  vanish ();
  serve ();
  CHECK_EQ (used (), 2);
  CHECK_EQ (find ("a")->state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (find ("b")->id, id);
  CHECK (serve_read (&engine, &env.source.image, find ("a")->id, &now, 1,
                     0) == 0);
  CHECK_EQ (now, old);
  CHECK (serve_read (&engine, &env.source.image, id, &now, 1, 0) == 0);
  CHECK_EQ (now, (unsigned char) (old + 1));
  CHECK (create ("c", SIZE)->id > id);
  drop ("b");
  drop ("c");
  drop ("a");
  CHECK_EQ (used (), 0);
  CHECK (!there ("a") && !there ("b") && !there ("c"));
  end ();
}

/* The age counts, not the place in the table. */
static void
test_order (void)
{
  unsigned char old, now;

  start ();
  create ("a", SIZE);
  create ("b", SIZE);
  drop ("a");
  old = env.disk.fake.data[0];
  create ("c", SIZE);           /* where "a" was */
  change (0);
  vanish ();
  serve ();
  CHECK (find ("c") < find ("b"));
  CHECK (serve_read (&engine, &env.source.image, find ("b")->id, &now, 1,
                     0) == 0);
  CHECK_EQ (now, old);
  drop ("b");
  drop ("c");
  CHECK_EQ (used (), 0);
  end ();
}

/* An entry that is used again has nothing of its predecessor. */
static void
test_reused_entry (void)
{
  struct cbw_snapshot *entry;
  unsigned char old, now;

  start ();
  entry = create ("a", SIZE);
  change (0);
  drop ("a");
  old = env.disk.fake.data[0];
  CHECK (create ("b", SIZE) == entry);
  CHECK_EQ (entry->copied_clusters, 0);
  CHECK (serve_read (&engine, &env.source.image, entry->id, &now, 1, 0) == 0);
  CHECK_EQ (now, old);
  change (0);
  CHECK (serve_read (&engine, &env.source.image, entry->id, &now, 1, 0) == 0);
  CHECK_EQ (now, old);
  drop ("b");
  end ();
}

/* A request that is run again, since nobody knows if it was. */
static void
test_create_again (void)
{
  struct create_params p = { .name = "a" };
  uint64_t held_ns;
  struct error e;

  start ();
  p.target = target ("a");
  CHECK (create_snapshot (&engine, &segment, &p, SIZE, &held_ns, &e) == 0);
  CHECK (create_snapshot (&engine, &segment, &p, SIZE, &held_ns, &e) == 0);
  CHECK_EQ (used (), 1);
  p.uuid[0] = 1;                /* another one */
  CHECK (create_snapshot (&engine, &segment, &p, SIZE, &held_ns, &e) == -1);
  CHECK_ERROR (&e, EEXIST, "there is a snapshot");
  CHECK_EQ (used (), 1);
  CHECK (there ("a"));
  drop ("a");
  end ();
}

/* A snapshot of a disk which had grown since the segment was made was
 * taken for damage.
 */
static void
test_grown_disk (void)
{
  struct error e;

  start ();
  create ("a", SIZE);
  create ("b", SIZE + CS + 17);
  vanish ();
  serve ();
  CHECK_EQ (find ("b")->state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (find ("b")->size, SIZE + CS + 17);
  vanish ();

  /* It must not be smaller again. */
  segment_env_serve (&segment, SIZE, CS);
  engine_init (&engine);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  points_attach (&engine.points, &segment, &engine.generation, true,
                 false);
  CHECK (takeover_snapshots (&engine, &segment, SIZE + CS + 16, &e) == -1);
  CHECK_ERROR (&e, EINVAL, "has only");
  vanish ();
  serve ();
  CHECK_EQ (used (), 2);
  drop ("a");
  drop ("b");
  end ();
}

/* Killed while a snapshot was being made: its target goes too, if it is
 * surely ours.
 */
static void
test_reservation (void)
{
  struct cbw_snapshot *entry;

  start ();
  create ("a", SIZE)->state = CBW_SNAPSHOT_RESERVED;
  vanish ();
  serve ();
  CHECK_EQ (used (), 0);
  CHECK (!there ("a"));

  /* There before, empty. */
  entry = create ("a", SIZE);
  entry->state = CBW_SNAPSHOT_RESERVED;
  entry->target_created = 0;
  entry->sum = entry_sum (entry);
  vanish ();
  serve ();
  CHECK_EQ (used (), 0);
  CHECK (there ("a"));
  CHECK (unlink (target ("a")) == 0);

  /* Something else has come to stand there. */
  create ("a", SIZE)->state = CBW_SNAPSHOT_RESERVED;
  vanish ();
  CHECK (truncate (target ("a"), 0) == 0);
  {
    const int fd = open (target ("a"), O_WRONLY);

    CHECK (write (fd, "data", 4) == 4);
    close (fd);
  }
  serve ();
  CHECK_EQ (used (), 0);
  CHECK (there ("a"));
  CHECK (unlink (target ("a")) == 0);
  end ();
}

/* Killed while it was noted in the entry which file the target is: the
 * file stayed behind.
 */
static void
test_reservation_half_noted (void)
{
  struct cbw_snapshot *entry;

  start ();
  entry = create ("a", SIZE);
  entry->state = CBW_SNAPSHOT_RESERVED;
  entry->target_inode = 0;      /* not yet; nor is the sum right */
  vanish ();
  serve ();
  CHECK_EQ (used (), 0);
  CHECK (!there ("a"));
  end ();
}

/* Killed in a drop: who is hidden and needed stays; who is not goes. */
static void
test_hidden (void)
{
  start ();
  create ("a", SIZE);
  create ("b", SIZE);
  change (0);
  change (1);
  create ("c", SIZE);
  change (2);
  drop ("b");
  vanish ();
  serve ();
  CHECK_EQ (used (), 3);
  find ("a")->state = CBW_SNAPSHOT_HIDDEN;
  vanish ();
  serve ();
  CHECK_EQ (used (), 1);
  CHECK (!there ("a") && !there ("b") && there ("c"));
  drop ("c");
  end ();
}

/* Make a snapshot a backup, as it would be in the segment. */
static void
become_backup (struct cbw_snapshot *entry)
{
  struct error e;

  entry->options.backup = 1;
  CHECK (segment_allocate_bitmaps (&segment, (unsigned)
                                   (entry - map_snapshot (&segment.map, 0)),
                                   CBW_BACKUP_BITMAPS, &e) == 0);
}

static void
make_result (struct cbw_snapshot *entry, const char *name)
{
  strcpy (entry->name, name);
  become_backup (entry);
  entry->job.kind = CBW_JOB_BACKUP;
  atomic_store (&entry->job.state, CBW_JOB_COMPLETE);
  entry->sum = entry_sum (entry);
}

/* The server died when it had made a backup of the name that an earlier
 * result has, and had not forgotten that.
 */
static void
test_replaced (void)
{
  char name[CBW_NAME_MAX];
  uint64_t old, other;

  start ();
  old = create ("a", SIZE)->id;
  other = create ("b", SIZE)->id;
  create ("new", SIZE);
  make_result (find ("a"), "new");
  make_result (find ("b"), "other");
  vanish ();
  serve ();
  CHECK_EQ (used (), 2);
  CHECK (!table_result (&engine.table, old, name));
  CHECK (table_result (&engine.table, other, name));
  CHECK_EQ (find ("new")->job.kind, CBW_JOB_NONE);
  drop ("new");
  drop ("other");
  CHECK (unlink (target ("a")) == 0 && unlink (target ("b")) == 0);
  end ();
}

/* A target is gone: its own snapshot is lost, and the older ones which
 * look through it, but no others.
 */
static void
test_target_gone (void)
{
  unsigned char byte;

  start ();
  create ("a", SIZE);
  change (0);
  create ("b", SIZE);
  change (0);
  change (1);
  create ("c", SIZE);
  change (1);                   /* b has it */
  create ("d", SIZE);
  change (2);
  vanish ();
  CHECK (unlink (target ("b")) == 0);
  serve ();
  CHECK_EQ (find ("a")->state, CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (find ("a")->error_reason, CBW_BROKEN_TARGET);
  CHECK_EQ (find ("a")->error_offset, CS);
  CHECK_EQ (find ("b")->state, CBW_SNAPSHOT_BROKEN);
  CHECK_EQ (find ("c")->state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (find ("d")->state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (serve_read (&engine, &env.source.image, find ("a")->id, &byte, 1,
                        0),
            EIO);
  drop ("a");
  drop ("b");
  drop ("c");
  drop ("d");
  CHECK_EQ (used (), 0);
  end ();
}

static void
test_damaged (void)
{
  struct cbw_snapshot *entry;
  struct error e;
  unsigned n;

  for (n = 0; n < 5; ++n) {
    start ();
    entry = create ("a", SIZE);
    switch (n) {
    case 0: entry->id++; break;
    case 1: entry->state = 99; break;
    case 2: entry->size = UINT64_MAX; break;
    case 3: memset (entry->target, 'x', sizeof entry->target); break;
    default: entry->target_kind = 77;
    }
    if (n >= 2)
      entry->sum = entry_sum (entry);
    vanish ();
    segment_env_serve (&segment, SIZE, CS);
    engine_init (&engine);
    table_attach (&engine.table, map_snapshot (&segment.map, 0));
    points_attach (&engine.points, &segment, &engine.generation, true,
                 false);
    CHECK (takeover_snapshots (&engine, &segment, SIZE, &e) == -1);
    CHECK_ERROR (&e, EBADMSG, "is damaged");
    CHECK (there ("a"));
    CHECK (unlink (target ("a")) == 0);
    end ();
  }
}

/* A job of a kind that a later version has begun: the snapshot is kept, and
 * the job left as it is.
 */
static void
test_unknown_job (void)
{
  unsigned char old, now;
  struct cbw_job before;
  struct error e;

  start ();
  old = env.disk.fake.data[0];
  create ("a", SIZE)->job.kind = 9;
  find ("a")->job.moved_clusters = 3;
  atomic_store (&find ("a")->job.state, CBW_JOB_RUNNING);
  memcpy (&before, &find ("a")->job, sizeof before);
  change (0);
  vanish ();
  serve ();
  CHECK (takeover_backups (&engine, &e) == 0);
  CHECK_EQ (find ("a")->state, CBW_SNAPSHOT_LIVE);
  CHECK (serve_read (&engine, &env.source.image, find ("a")->id, &now, 1,
                     0) == 0);
  CHECK_EQ (now, old);
  CHECK (fill_control (&engine.fill, find ("a")->id, CBW_JOB_PAUSE, 0,
                       &e) == -1);
  CHECK_ERROR (&e, ENOTSUP, "a job that this server does not know");
  CHECK (memcmp (&before, &find ("a")->job, sizeof before) == 0);
  drop ("a");
  CHECK_EQ (used (), 0);
  CHECK (!there ("a"));
  end ();
}

/* What such a job has completed is a user's image, as what a backup has. */
static void
test_unknown_backup (void)
{
  struct cbw_snapshot *entry;

  start ();
  entry = create ("a", SIZE);
  become_backup (entry);
  entry->sum = entry_sum (entry);
  entry->job.kind = 9;
  atomic_store (&entry->job.state, CBW_JOB_COMPLETE);
  vanish ();
  serve ();
  drop ("a");
  CHECK_EQ (used (), 0);
  CHECK (there ("a"));
  CHECK (unlink (target ("a")) == 0);
  end ();
}

/* Jobs of known kinds must make sense. */
static void
test_damaged_job (void)
{
  struct cbw_snapshot *entry;
  struct error e;
  unsigned n;

  for (n = 0; n < 3; ++n) {
    start ();
    entry = create ("a", SIZE);
    entry->options.backup = n > 0;
    entry->sum = entry_sum (entry);
    entry->job.kind = n == 1 ? CBW_JOB_NONE : CBW_JOB_BACKUP;
    atomic_store (&entry->job.state, n == 2 ? CBW_JOB_FAILED + 1 :
                  CBW_JOB_RUNNING);
    vanish ();
    segment_env_serve (&segment, SIZE, CS);
    engine_init (&engine);
    table_attach (&engine.table, map_snapshot (&segment.map, 0));
    points_attach (&engine.points, &segment, &engine.generation, true,
                 false);
    CHECK (takeover_snapshots (&engine, &segment, SIZE, &e) == -1);
    CHECK_ERROR (&e, EBADMSG, "is damaged");
    CHECK (unlink (target ("a")) == 0);
    end ();
  }
}

int
main (void)
{
  unit_start ();
  RUN (test_all_come_back);
  RUN (test_order);
  RUN (test_generation);
  RUN (test_generation_reader);
  RUN (test_reused_entry);
  RUN (test_create_again);
  RUN (test_grown_disk);
  RUN (test_reservation);
  RUN (test_reservation_half_noted);
  RUN (test_hidden);
  RUN (test_replaced);
  RUN (test_target_gone);
  RUN (test_damaged);
  RUN (test_unknown_job);
  RUN (test_unknown_backup);
  RUN (test_damaged_job);
  return unit_end ();
}
