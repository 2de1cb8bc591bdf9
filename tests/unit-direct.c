/* SPDX-License-Identifier: BSD-3-Clause */

/* What a client is told that asks how a snapshot can be read without asking. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "segment-env.h"
#include "segment/entry.h"
#include "segment/segment-server.h"
#include "service/serve-direct.h"
#include "unit.h"
#include "utils/clock.h"

#define CS 4096
#define SIZE (10 * CS - 5)

static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;
static struct disk disk;        /* the file alone */
static struct cbw_direct reply;

static const char *
path_of (const char *name)
{
  static char path[CBW_TARGET_MAX];

  snprintf (path, sizeof path, "%s/%s", segment_env.dir, name);
  return path;
}

static void
start (void)
{
  struct stat st;

  segment_env_start ();
  env_start_bare (&env, 12 * CS, CS, 1);
  segment_env_serve (&segment, SIZE, CS);
  engine_init (&engine);
  engine_set_source (&engine, &env.source);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  generation_attach (&engine.generation,
                     &map_header (&segment.map)->chain_generation);
  segment_env_publish (&segment);

  disk.file.fd = open (path_of ("disk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK (disk.file.fd >= 0);
  CHECK_EQ (fstat (disk.file.fd, &st), 0);
  disk.file.device = st.st_dev;
  disk.file.inode = st.st_ino;
  disk.file.rdev = st.st_rdev;
  atomic_store (&disk.file.known, true);
}

static void
end (void)
{
  engine_stop (&engine);
  CHECK (engine_join (&engine, now_monotonic_ns () + 30 * NS_PER_SEC));
  engine_free (&engine);
  segment_close (&segment, true);
  close (disk.file.fd);
  CHECK_EQ (unlink (path_of ("disk")), 0);
  env_end (&env);
  segment_env_end ();
}

static struct cbw_snapshot *
find (const char *name)
{
  struct snapshot_info info;

  CHECK (entry_find (&segment.map, name, &info));
  return map_snapshot (&segment.map, info.index);
}

/* A snapshot, or a backup that takes years; its id. */
static uint64_t
create (const char *name, bool backup)
{
  struct create_params p = {
    .name = name, .target = path_of (name), .options.backup = backup,
    .speed = 1,
  };
  static unsigned nr;
  uint64_t held_ns;
  struct error e;

  snprintf ((char *) p.uuid, sizeof p.uuid, "%s%u", name, ++nr);
  CHECK (create_snapshot (&engine, &segment, &p, SIZE, &held_ns, &e) == 0);
  return find (name)->id;
}

static void
drop (const char *name)
{
  struct error e;

  CHECK (drop_snapshot (&engine, &segment, find (name)->id, false, 0, &e) == 0);
}

static int
ask (uint64_t id)
{
  return serve_direct (&engine, &segment.map, &disk, id, &reply);
}

static void
check_file (const struct cbw_direct_file *f, const char *path)
{
  struct stat st, open;

  CHECK_EQ (stat (path, &st), 0);
  CHECK_EQ (f->kind, 1);
  CHECK_EQ (fstat ((int) f->fd, &open), 0);
  CHECK_EQ (open.st_ino, st.st_ino);
  CHECK_EQ (f->device, st.st_dev);
  CHECK_EQ (f->inode, st.st_ino);
  CHECK_EQ (f->rdev, st.st_rdev);
  CHECK (strcmp (f->path, path) == 0);
}

static void
check_view (const struct cbw_direct_view *v, const char *name)
{
  const struct cbw_snapshot *entry = find (name);

  CHECK_EQ (v->id, entry->id);
  CHECK_EQ (v->size, SIZE);
  CHECK (map_snapshot (&segment.map, v->index) == entry);
  CHECK (segment.map.base + v->access_offset ==
         (void *) map_bitmap (&segment.map, v->index, CBW_BITMAP_ACCESS,
                              SIZE).words);
  CHECK (segment.map.base + v->done_offset ==
         (void *) map_bitmap (&segment.map, v->index, CBW_BITMAP_DONE,
                              SIZE).words);
  check_file (&v->target, path_of (name));
}

/* From the snapshot on, without the backups. */
static void
test_chain (void)
{
  uint64_t a, b, full;

  start ();
  a = create ("a", false);
  full = create ("full", true);
  b = create ("b", false);
  memset (&reply, 0xff, sizeof reply);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.generation, map_header (&segment.map)->chain_generation);
  CHECK_EQ (reply.generation % 2, 0);
  CHECK_EQ (reply.pid, (uint32_t) getpid ());
  check_file (&reply.source, path_of ("disk"));
  CHECK_EQ (reply.nr_views, 2);
  check_view (&reply.views[0], "a");
  check_view (&reply.views[1], "b");
  CHECK_EQ (reply.views[2].id, 0);

  CHECK_EQ (ask (b), 0);
  CHECK_EQ (reply.nr_views, 1);
  check_view (&reply.views[0], "b");
  CHECK_EQ (ask (full), ENOTSUP);
  drop ("full");
  drop ("b");
  drop ("a");
  end ();
}

static void
test_refused (void)
{
  uint64_t a, b;

  start ();
  a = create ("a", false);
  b = create ("b", false);
  CHECK_EQ (ask (b + 1), ESHUTDOWN);
  CHECK_EQ (serve_direct (&engine, &segment.map, NULL, a, &reply), ENOTSUP);
  atomic_store (&disk.file.known, false);
  CHECK_EQ (ask (a), ENOTSUP);
  atomic_store (&disk.file.known, true);
  CHECK_EQ (ask (a), 0);

  /* What a looks through is not as long as it was. */
  CHECK_EQ (truncate (path_of ("b"), SIZE - 1), 0);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.views[0].target.kind, 1);
  CHECK_EQ (reply.views[1].target.kind, 0);
  CHECK_EQ (ask (b), 0);
  CHECK_EQ (reply.views[0].target.kind, 0);
  CHECK_EQ (truncate (path_of ("b"), SIZE), 0);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.views[1].target.kind, 1);

  snapshot_break (engine.chain.current->snaps[0], CBW_BROKEN_COPY, EIO, 0,
                  "for the test");
  CHECK_EQ (ask (a), EIO);
  CHECK_EQ (ask (b), 0);
  drop ("b");
  CHECK_EQ (ask (b), ESHUTDOWN);
  drop ("a");
  end ();
}

/* Dropped, and still looked through: it is in the chain, and its file has
 * another name.
 */
static void
test_hidden (void)
{
  char moved[CBW_TARGET_MAX];
  uint64_t a, b;

  start ();
  a = create ("a", false);
  b = create ("b", false);
  drop ("b");
  CHECK_EQ (ask (b), ESHUTDOWN);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.nr_views, 2);
  snprintf (moved, sizeof moved, "%s.dropped-%ju", path_of ("b"),
            (uintmax_t) b);
  CHECK_EQ (reply.views[1].id, b);
  check_file (&reply.views[1].target, moved);
  drop ("a");
  end ();
}

/* What happens while the first target is checked, once. */
static void (*_Atomic amid) (void);

/* In the place of the kernel's, which is asked for write-back errors. */
int
sync_file_range (int fd, off_t offset, off_t count, unsigned flags)
{
  void (*run) (void) = atomic_exchange (&amid, NULL);

  (void) fd;
  (void) offset;
  (void) count;
  (void) flags;
  if (run)
    run ();
  return 0;
}

static void
create_b (void)
{
  create ("b", false);
}

static void
drop_b (void)
{
  drop ("b");
}

static void
bump (void)
{
  generation_bump (&engine.generation);
}

/* The chain changes, or what it was is used for something else, after it has
 * been looked at.
 */
static void
test_changed (void)
{
  static void (*const changes[]) (void) = { bump, create_b, drop_b };
  uint64_t a, generation;
  size_t i;

  start ();
  a = create ("a", false);
  for (i = 0; i < sizeof changes / sizeof changes[0]; ++i) {
    CHECK_EQ (ask (a), 0);
    generation = reply.generation;
    atomic_store (&amid, changes[i]);
    CHECK_EQ (ask (a), EAGAIN);
    CHECK (atomic_load (&amid) == NULL);
    CHECK_EQ (ask (a), 0);
    CHECK (reply.generation > generation);
  }
  drop ("a");
  end ();
}

static void
test_changing (void)
{
  uint64_t a, before;

  start ();
  a = create ("a", false);
  CHECK_EQ (ask (a), 0);
  before = reply.generation;
  generation_begin (&engine.generation);
  CHECK_EQ (ask (a), EAGAIN);
  generation_end (&engine.generation);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.generation, before + 2);
  /* What others write there is not believed. */
  atomic_store (&map_header (&segment.map)->chain_generation, 1);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.generation, before + 2);
  drop ("a");
  end ();
}

/* ---- While the chain changes ---- */

static _Atomic (bool) stop;

/* What is dropped stays in the chain, as there is an older one. */
static void *
changer (void *opaque)
{
  unsigned i;

  (void) opaque;
  for (i = 0; i < 30; ++i) {
    create ("b", false);
    drop ("b");
  }
  atomic_store (&stop, true);
  return NULL;
}

/* What is told of one generation is always the same. */
static void
race (uint64_t id)
{
  static struct cbw_direct last;

  last.generation = 0;
  while (!atomic_load (&stop)) {
    if (ask (id) != 0)          /* it changes just now */
      continue;
    CHECK_EQ (reply.generation % 2, 0);
    CHECK (reply.generation >= last.generation);
    if (reply.generation == last.generation) {
      CHECK_EQ (reply.nr_views, last.nr_views);
      CHECK_EQ (reply.views[reply.nr_views - 1].id,
                last.views[last.nr_views - 1].id);
    }
    last = reply;
  }
}

static void
test_race (void)
{
  pthread_t thread;
  uint64_t a;

  start ();
  a = create ("a", false);
  CHECK_EQ (pthread_create (&thread, NULL, changer, NULL), 0);
  race (a);
  CHECK_EQ (pthread_join (thread, NULL), 0);
  CHECK_EQ (ask (a), 0);
  CHECK_EQ (reply.nr_views, 31);
  drop ("a");
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_chain);
  RUN (test_refused);
  RUN (test_hidden);
  RUN (test_changing);
  RUN (test_changed);
  RUN (test_race);
  return unit_end ();
}
