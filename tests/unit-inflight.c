/* SPDX-License-Identifier: BSD-3-Clause */

/* Guests' changes that are noted while they are under way, what the next
 * server makes of the notes, and that a change which lands late is in no
 * snapshot.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "engine-env.h"
#include "guest/inflight.h"
#include "guest/suspects.h"
#include "lifecycle/lifecycle.h"
#include "segment-env.h"
#include "segment/segment-server.h"
#include "segment/entry.h"
#include "service/serve-read.h"
#include "unit.h"
#include "utils/cleanup.h"

#define CS (64 * 1024)
#define CLUSTERS 200            /* more than may be copied at once */
#define SIZE (CLUSTERS * CS - 5)

static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;

static struct cbw_inflight *
record (unsigned i)
{
  return map_inflight (&segment.map) + i;
}

static unsigned
count (enum cbw_inflight_state state)
{
  unsigned i, n = 0;

  for (i = 0; i < CBW_NR_INFLIGHT; ++i)
    n += atomic_load (&record (i)->state) == state;
  return n;
}

static void
serve (bool was_local, bool local)
{
  struct error e;

  segment_env_serve (&segment, SIZE, CS);
  engine_init (&engine);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  points_attach (&engine.points, &segment, &engine.generation, true,
                 false);
  engine_set_source (&engine, &env.source);
  if (!segment.fresh)
    CHECK (takeover_snapshots (&engine, &segment, SIZE, &e) == 0);
  CHECK (segment_begin (&segment, &e) == 0);
  inflight_attach (&engine.inflight, &segment.map, was_local, local);
  segment_publish (&segment);
}

/* The filter is gone, and nothing was said. */
static void
vanish (void)
{
  engine_stop (&engine);
  CHECK (engine_join (&engine, now_monotonic_ns () + 60 * NS_PER_SEC));
  engine_free (&engine);
  segment_close (&segment, false);
}

static void
start (void)
{
  segment_env_start ();
  env_start_bare (&env, SIZE, CS, 1);
  serve (false, false);
}

static void
end (void)
{
  struct snapshot_info info;
  struct error e;

  while (entry_find (&segment.map, NULL, &info))
    CHECK (drop_snapshot (&engine, &segment, info.id, false, 0, &e) == 0);
  vanish ();
  env_end (&env);
  CHECK (unlink (segment_env.path) == 0);
  segment_env_end ();
}

/* ---- Notes ---- */

static struct cbw_inflight *
begin (uint64_t offset, uint64_t n)
{
  struct cbw_inflight *r;

  CHECK_EQ (inflight_begin (&engine.inflight, offset, n, &r), 0);
  return r;
}

static void
test_noted (void)
{
  static const int over[] = { 0, ENOSPC, EDQUOT, EFBIG, EPERM, EROFS, EINVAL,
                              ENOTSUP, EOPNOTSUPP };
  static const int unknown[] = { EIO, ESHUTDOWN, ENOTCONN, ETIMEDOUT };
  struct cbw_inflight *r;
  unsigned i;

  start ();
  for (i = 0; i < sizeof over / sizeof over[0]; ++i) {
    r = begin (4096, 512);
    CHECK_EQ (atomic_load (&r->state), CBW_INFLIGHT_UNDER_WAY);
    CHECK_EQ (r->offset, 4096);
    CHECK_EQ (r->count, 512);
    CHECK_EQ (count (CBW_INFLIGHT_FREE), CBW_NR_INFLIGHT - 1);
    inflight_end (&engine.inflight, r, over[i]);
    CHECK_EQ (count (CBW_INFLIGHT_FREE), CBW_NR_INFLIGHT);
  }
  for (i = 0; i < sizeof unknown / sizeof unknown[0]; ++i) {
    inflight_end (&engine.inflight, begin (i * 4096, 512), unknown[i]);
    CHECK_EQ (count (CBW_INFLIGHT_SUSPECT), i + 1);
  }
  end ();
}

static void
test_local (void)
{
  start ();
  vanish ();
  serve (false, true);
  CHECK (begin (0, 512) == NULL);
  inflight_end (&engine.inflight, NULL, EIO);
  CHECK_EQ (count (CBW_INFLIGHT_FREE), CBW_NR_INFLIGHT);
  end ();
}

/* Killed after any store that notes or forgets: what may be under way is
 * suspect, and nothing else.
 */
static void
test_takeover (void)
{
  unsigned local, round;

  for (local = 0; local < 2; ++local) {
    start ();
    record (1)->offset = 77;
    record (1)->count = UINT64_MAX;
    atomic_store (&record (1)->state, CBW_INFLIGHT_CLAIMED);
    record (2)->offset = 1000;
    record (2)->count = 24;
    atomic_store (&record (2)->state, CBW_INFLIGHT_UNDER_WAY);
    record (3)->offset = UINT64_MAX - 5;
    record (3)->count = 100;
    atomic_store (&record (3)->state, CBW_INFLIGHT_SUSPECT);
    atomic_store (&record (4)->state, 4711);
    for (round = 0; round < 2; ++round) {
      vanish ();
      serve (local, false);
      CHECK_EQ (count (CBW_INFLIGHT_SUSPECT), 2 - local);
      CHECK_EQ (count (CBW_INFLIGHT_FREE), CBW_NR_INFLIGHT - 2 + local);
      LOCK_FOR_SCOPE (&engine.inflight.lock);
      inflight_collect (&engine.inflight);
      CHECK_EQ (engine.inflight.nr_ranges, 2 - local);
      if (!local) {
        CHECK_EQ (engine.inflight.ranges[0].start, 1000);
        CHECK_EQ (engine.inflight.ranges[0].end, 1024);
      }
      CHECK_EQ (engine.inflight.ranges[1 - local].end, UINT64_MAX);
    }
    end ();
  }
}

static bool
is_suspect (uint64_t start, uint64_t end)
{
  const struct inflight *f = &engine.inflight;
  size_t i;

  for (i = 0; i < f->nr_ranges; ++i)
    if (f->ranges[i].start <= start && end <= f->ranges[i].end)
      return true;
  return false;
}

/* More than there is room for: they are merged, and none is forgotten. */
static void
test_many (void)
{
  const unsigned n = 5 * CBW_NR_INFLIGHT;
  unsigned i;

  start ();
  for (i = 0; i < n; ++i)
    inflight_end (&engine.inflight, begin (i * 7919 % n * 20000, 100), EIO);
  CHECK (count (CBW_INFLIGHT_SUSPECT) <= CBW_NR_INFLIGHT / 2 + 1);
  CHECK_EQ (count (CBW_INFLIGHT_SUSPECT) + count (CBW_INFLIGHT_FREE),
            CBW_NR_INFLIGHT);
  CHECK_EQ (atomic_load (&engine.inflight.nr_suspects),
            count (CBW_INFLIGHT_SUSPECT));
  vanish ();
  serve (false, false);
  {
    LOCK_FOR_SCOPE (&engine.inflight.lock);
    inflight_collect (&engine.inflight);
    for (i = 0; i < n; ++i)
      CHECK (is_suspect (i * 20000, i * 20000 + 100));
  }
  end ();
}

static _Atomic (bool) got_one;

static void *
begin_thread (void *opaque)
{
  struct cbw_inflight **r = opaque;

  *r = begin (0, 512);
  atomic_store (&got_one, true);
  return NULL;
}

/* All records are in use: a change waits until one is free. */
static void
test_full (void)
{
  struct cbw_inflight *r[CBW_NR_INFLIGHT], *last;
  pthread_t thread;
  unsigned i;

  start ();
  atomic_store (&got_one, false);
  for (i = 0; i < CBW_NR_INFLIGHT; ++i)
    r[i] = begin (i, 1);
  CHECK_EQ (count (CBW_INFLIGHT_FREE), 0);
  CHECK_EQ (pthread_create (&thread, NULL, begin_thread, &last), 0);
  for (i = 0; i < 1000; ++i) {
    sched_yield ();
    CHECK (!atomic_load (&got_one));
  }
  inflight_end (&engine.inflight, r[500], 0);
  CHECK_EQ (pthread_join (thread, NULL), 0);
  CHECK (last == r[500]);
  for (i = 0; i < CBW_NR_INFLIGHT; ++i)
    inflight_end (&engine.inflight, r[i], 0);
  end ();
}

static void *
many_thread (void *opaque)
{
  const uint64_t n = (uintptr_t) opaque;
  struct cbw_inflight *r;
  unsigned i;

  for (i = 0; i < 2000; ++i) {
    r = begin (n * 1000000 + i * 100, 50);
    CHECK_EQ (r->offset, n * 1000000 + i * 100);
    inflight_end (&engine.inflight, r, i % 4 == 0 ? EIO : 0);
  }
  return NULL;
}

/* Many threads at once, whose suspects are merged meanwhile. */
static void
test_threads (void)
{
  pthread_t thread[8];
  uintptr_t n;
  unsigned i;

  start ();
  for (n = 0; n < 8; ++n)
    CHECK_EQ (pthread_create (&thread[n], NULL, many_thread, (void *) n), 0);
  for (n = 0; n < 8; ++n)
    CHECK_EQ (pthread_join (thread[n], NULL), 0);
  CHECK_EQ (count (CBW_INFLIGHT_UNDER_WAY) + count (CBW_INFLIGHT_CLAIMED), 0);
  CHECK_EQ (atomic_load (&engine.inflight.nr_suspects),
            count (CBW_INFLIGHT_SUSPECT));
  {
    LOCK_FOR_SCOPE (&engine.inflight.lock);
    inflight_collect (&engine.inflight);
    for (n = 0; n < 8; ++n)
      for (i = 0; i < 2000; i += 4)
        CHECK (is_suspect (n * 1000000 + i * 100, n * 1000000 + i * 100 + 50));
  }
  end ();
}

/* ---- Snapshots ---- */

static int
create (const char *name, bool backup, struct error *e)
{
  char target[CBW_TARGET_MAX];
  struct create_params p = { .name = name, .target = target };
  uint64_t held_ns;

  p.options.backup = backup;
  snprintf (target, sizeof target, "%s/%s.cow", segment_env.dir, name);
  memcpy (p.uuid, name, strlen (name));
  return create_snapshot (&engine, &segment, &p, SIZE, &held_ns, e);
}

/* Read the first byte of a cluster in the view. */
static int
view (const char *name, uint64_t cluster, unsigned char *byte)
{
  struct snapshot_info info;

  CHECK (entry_find (&segment.map, name, &info));
  return serve_read (&engine, &env.source.image, info.id, byte, 1,
                     cluster * CS);
}

static void
view_is (const char *name, uint64_t cluster, unsigned char byte)
{
  unsigned char now;

  CHECK_EQ (view (name, cluster, &now), 0);
  CHECK_EQ (now, byte);
}

static void
suspect (uint64_t cluster, uint64_t n)
{
  inflight_end (&engine.inflight, begin (cluster * CS + 10, n * CS - 10),
                EIO);
}

static unsigned char *
at (uint64_t cluster)
{
  return env.disk.fake.data + cluster * CS;
}

/* Two changes land after the snapshot was taken; also after a second one. */
static void
test_lands_late (void)
{
  unsigned char old3, old7, last;
  struct error e;

  start ();
  old3 = *at (3);
  old7 = *at (7);
  last = *at (CLUSTERS - 1);
  suspect (3, 1);
  suspect (6, 2);
  suspect (CLUSTERS - 1, 1);    /* and behind the end */
  CHECK_EQ (create ("a", false, &e), 0);
  *at (3) = old3 + 1;
  view_is ("a", 3, old3);
  CHECK_EQ (create ("b", false, &e), 0);
  *at (3) = old3 + 2;
  *at (7) = old7 + 1;
  *at (CLUSTERS - 1) = last + 1;
  view_is ("a", 3, old3);
  view_is ("a", 7, old7);
  view_is ("b", 3, old3 + 1);
  view_is ("b", 7, old7);
  view_is ("b", CLUSTERS - 1, last);
  /* It stays one, whatever has landed. */
  vanish ();
  serve (false, false);
  CHECK_EQ (create ("c", false, &e), 0);
  *at (7) = old7 + 2;
  view_is ("b", 7, old7);
  view_is ("c", 7, old7 + 1);
  end ();
}

/* Half of the clusters in two suspects: each is copied once. */
static void
test_overlap (void)
{
  struct snapshot_info info;
  struct error e;

  start ();
  suspect (3, 4);
  suspect (5, 4);
  inflight_end (&engine.inflight, begin (9 * CS - 1, 1), EIO);
  inflight_end (&engine.inflight, begin (9 * CS + 77, 1), EIO);
  CHECK_EQ (create ("a", false, &e), 0);
  CHECK (entry_find (&segment.map, "a", &info));
  CHECK_EQ (map_snapshot (&segment.map, info.index)->copied_clusters, 7);
  end ();
}

static void
test_too_many (void)
{
  const uint64_t max = SUSPECTS_MAX / CS;
  struct snapshot_info info;
  struct error e;

  start ();
  suspect (1, max);
  CHECK_EQ (create ("a", false, &e), 0);
  suspect (max + 20, 1);
  CHECK_EQ (create ("b", false, &e), -1);
  CHECK_ERROR (&e, EBUSY, "were left under way");
  CHECK (!entry_find (&segment.map, "b", &info));
  view_is ("a", 1, *at (1));
  end ();
}

/* A cluster that cannot be read is withdrawn, for there a view would change
 * if it came back; a backup cannot do without.
 */
static void
test_unreadable (void)
{
  unsigned char byte;
  struct error e;

  start ();
  suspect (3, 2);
  atomic_store (&env.disk.fake.fail, EIO);
  CHECK_EQ (create ("b", true, &e), -1);
  CHECK_ERROR (&e, EIO, "cannot read old data");
  CHECK_EQ (create ("a", false, &e), 0);
  atomic_store (&env.disk.fake.fail, 0);
  CHECK_EQ (view ("a", 3, &byte), EPERM);
  CHECK_EQ (view ("a", 4, &byte), EPERM);
  view_is ("a", 2, *at (2));
  view_is ("a", 5, *at (5));
  end ();
}

static sem_t hangs, go_on;

static void
hang (void *opaque)
{
  (void) opaque;
  sem_post (&hangs);
  sem_wait (&go_on);
}

/* The disk hangs: guests are not held for it. */
static void
test_hangs (void)
{
  struct error e;

  start ();
  sem_init (&hangs, 0, 0);
  sem_init (&go_on, 0, 0);
  suspect (3, 1);
  hook_set (&env.disk.fake.before, hang, NULL);
  CHECK_EQ (create ("a", false, &e), -1);
  CHECK_ERROR (&e, EBUSY, "took longer than 1 s");
  sem_wait (&hangs);
  sem_post (&go_on);
  CHECK_EQ (create ("a", false, &e), 0);
  end ();
}

/* What an earlier snapshot still has from the source is preserved before
 * guests are served.
 */
static void
test_preserve (void)
{
  const unsigned char old = *(start (), at (3));
  struct error e;

  CHECK_EQ (create ("a", false, &e), 0);
  record (9)->offset = 3 * CS;
  record (9)->count = CS;
  atomic_store (&record (9)->state, CBW_INFLIGHT_UNDER_WAY);
  vanish ();
  serve (false, false);
  CHECK_EQ (suspects_preserve (&engine, &e), 0);
  *at (3) = old + 1;
  view_is ("a", 3, old);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_noted);
  RUN (test_local);
  RUN (test_takeover);
  RUN (test_many);
  RUN (test_full);
  RUN (test_threads);
  RUN (test_lands_late);
  RUN (test_overlap);
  RUN (test_too_many);
  RUN (test_unreadable);
  RUN (test_hangs);
  RUN (test_preserve);
  return unit_end ();
}
