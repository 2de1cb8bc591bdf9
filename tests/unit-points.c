/* SPDX-License-Identifier: BSD-3-Clause */

/* Points: what is marked in which, how they merge, and what a server takes
 * over from one that was killed.  A model knows which clusters were changed
 * between which moments, and every delta must be exactly that.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "segment-env.h"
#include "segment/delta.h"
#include "segment/segment-server.h"
#include "service/serve-read.h"
#include "unit.h"

#define CS 4096
#define NR_CLUSTERS 150         /* more than two words of a bitmap */
#define SIZE (NR_CLUSTERS * CS - 5)

static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;
static bool track = true;

static void
serve (void)
{
  struct cbw_header *h;
  struct error e;

  segment_env_serve (&segment, SIZE, CS);
  h = map_header (&segment.map);
  engine_init (&engine);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  generation_attach (&engine.generation, &h->chain_generation);
  points_attach (&engine.points, &segment, &engine.generation, track,
                 false);
  if (!segment.fresh)
    CHECK (takeover_snapshots (&engine, &segment, env.disk.fake.size,
                               &e) == 0);
  h->compat = track ? CBW_COMPAT_TRACKED : 0;
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
  env_start_bare (&env, NR_CLUSTERS * CS, CS, 1);
  serve ();
}

/* Drop all, which removes the targets. */
static void
end (void)
{
  struct snapshot_info info;
  struct error e;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (entry_read (&segment.map, i, &info))
      CHECK_EQ (drop_snapshot (&engine, &segment, info.id, false, 0, &e), 0);
  vanish ();
  env_end (&env);
  CHECK (unlink (segment_env.path) == 0);
  segment_env_end ();
}

static void
make_uuid (const char *name, uint8_t uuid[16])
{
  memset (uuid, 0, 16);
  memcpy (uuid, name, strlen (name));
}

static int
try_create (const char *name, uint64_t size, struct error *e)
{
  char target[CBW_TARGET_MAX];
  struct create_params p = { .name = name, .target = target };
  uint64_t held_ns;

  snprintf (target, sizeof target, "%s/%s.cow", segment_env.dir, name);
  make_uuid (name, p.uuid);
  return create_snapshot (&engine, &segment, &p, size, &held_ns, e);
}

static int
try_checkpoint (const char *name, struct error *e)
{
  uint8_t uuid[16];
  uint64_t held_ns;

  make_uuid (name, uuid);
  uuid[15] = 1;                 /* not that of a snapshot of that name */
  return create_checkpoint (&engine, &segment, name, uuid, SIZE, 0, &held_ns,
                            e);
}

static void
create (const char *name, uint64_t size)
{
  struct error e;

  CHECK_EQ (try_create (name, size, &e), 0);
}

static void
checkpoint (const char *name)
{
  struct error e;

  CHECK_EQ (try_checkpoint (name, &e), 0);
}

static uint64_t
id_of (const char *name)
{
  struct snapshot_info info;
  struct point point;

  if (entry_find (&segment.map, name, &info))
    return info.id;
  CHECK (point_find (&segment.map, name, &point));
  return point.id;
}

static void
drop (const char *name, bool keep_point)
{
  struct error e;

  CHECK_EQ (drop_snapshot (&engine, &segment, id_of (name), keep_point, 0, &e),
            0);
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

/* The delta of that name is of these clusters: "3 7 8". */
static void
expect_delta (const char *name, const char *clusters)
{
  char found[1024] = "";
  struct delta d;
  struct error e;
  uint64_t c;

  CHECK_EQ (delta_read (&segment, name, &d, &e), 0);
  for (c = 0; c < d.bits.nbits; ++c)
    if (bitmap_test (&d.bits, c))
      snprintf (found + strlen (found), sizeof found - strlen (found),
                "%s%u", found[0] ? " " : "", (unsigned) c);
  CHECK (strcmp (found, clusters) == 0);
  delta_free (&d);
}

static void
refuse_delta (const char *name, int num, const char *text)
{
  struct delta d;
  struct error e;

  CHECK_EQ (delta_read (&segment, name, &d, &e), -1);
  CHECK_ERROR (&e, num, text);
}

static void
test_marks (void)
{
  start ();
  change (1);                   /* before all points */
  create ("a", SIZE);
  change (2);
  change (149);
  create ("b", SIZE);
  change (3);
  change (2);
  create ("c", SIZE);
  change (4);
  expect_delta ("a..b", "2 149");
  expect_delta ("b..c", "2 3");
  expect_delta ("a..c", "2 3 149");
  expect_delta ("a..", "2 3 149");
  expect_delta ("a..a", "");
  refuse_delta ("b..a", EINVAL, "\"b\" is newer than \"a\"");
  refuse_delta ("x..b", ENOENT, "no snapshot or checkpoint \"x\"");
  refuse_delta ("a..x", ENOENT, "no snapshot \"x\"");
  end ();
}

static void
test_merge (void)
{
  struct error e;

  start ();
  create ("a", SIZE);
  change (1);
  create ("b", SIZE);
  change (2);
  checkpoint ("c");
  change (3);
  create ("d", SIZE);
  change (4);
  drop ("b", true);
  expect_delta ("b..d", "2 3");
  refuse_delta ("a..b", ENOENT, "no snapshot \"b\"");
  drop ("b", true);             /* again, as by the next server */
  expect_delta ("a..d", "1 2 3");
  drop ("b", false);
  expect_delta ("a..d", "1 2 3");
  refuse_delta ("b..d", ENOENT, "\"b\"");
  CHECK_EQ (try_create ("c", SIZE, &e), -1);
  CHECK_ERROR (&e, EEXIST, "snapshot or checkpoint \"c\"");
  CHECK_EQ (try_checkpoint ("d", &e), -1);
  CHECK_ERROR (&e, EEXIST, "snapshot \"d\"");
  drop ("a", false);            /* the oldest: nothing is before it */
  expect_delta ("c..d", "3");
  drop ("d", false);            /* the newest: marks go to "c" again */
  change (5);
  create ("e", SIZE);
  expect_delta ("c..e", "3 4 5");
  end ();
}

/* The last point goes: nothing is marked, until there is another. */
static void
test_none (void)
{
  start ();
  create ("a", SIZE);
  drop ("a", false);
  change (1);
  CHECK (engine.points.newest.words == NULL);
  create ("a", SIZE);
  change (2);
  create ("b", SIZE);
  expect_delta ("a..b", "2");
  end ();
}

static void
test_growth (void)
{
  start ();
  create ("a", 3 * CS + 1);
  change (1);
  change (20);
  create ("b", SIZE - CS);
  change (149);
  create ("c", SIZE);
  expect_delta ("b..c", "148 149");
  {
    struct delta d;
    struct error e;

    CHECK_EQ (delta_read (&segment, "a..b", &d, &e), 0);
    CHECK_EQ (bitmap_count (&d.bits, 3, 149), 146);
    CHECK_EQ (bitmap_count (&d.bits, 0, 3), 1);
    CHECK_EQ (delta_bytes (&d), 146 * (uint64_t) CS + CS - 5);
    delta_free (&d);
  }
  end ();
}

static void
test_takeover (void)
{
  struct point p;

  start ();
  create ("a", SIZE);
  change (1);
  create ("b", SIZE);
  change (2);
  vanish ();
  serve ();
  change (3);
  create ("c", SIZE);
  expect_delta ("a..c", "1 2 3");
  change (4);
  /* Killed in the middle of a drop: after J1, when guests mark in "b" again or
   * still in "c".
   */
  CHECK (point_find (&segment.map, "c", &p));
  atomic_store (&map_point (&segment.map, p.index)->state, CBW_POINT_MERGING);
  refuse_delta ("c..", ENOENT, "\"c\"");
  vanish ();
  serve ();
  change (5);
  create ("d", SIZE);
  expect_delta ("b..d", "2 3 4 5");
  end ();
}

/* Killed between the point and the snapshot: the reservation is undone, and
 * the point with it.
 */
static void
test_undone (void)
{
  struct snapshot_info info;

  start ();
  create ("a", SIZE);
  change (1);
  create ("b", SIZE);
  CHECK (entry_find (&segment.map, "b", &info));
  atomic_store (&map_snapshot (&segment.map, info.index)->state,
                CBW_SNAPSHOT_RESERVED);
  vanish ();
  serve ();
  change (2);
  create ("b", SIZE);
  expect_delta ("a..b", "1 2");
  end ();
}

static void
expect_invalid (const char *name, enum cbw_point_reason reason)
{
  struct point p;

  CHECK (point_find (&segment.map, name, &p));
  CHECK_EQ (p.state, CBW_POINT_INVALID);
  CHECK_EQ (p.reason, reason);
}

static void
test_doubt (void)
{
  struct error e;

  start ();
  checkpoint ("a");
  create ("b", SIZE);
  vanish ();
  track = false;
  serve ();
  expect_invalid ("a", CBW_POINT_UNTRACKED);
  expect_invalid ("b", CBW_POINT_UNTRACKED);
  refuse_delta ("a..b", ESTALE, "does not mark changes");
  CHECK_EQ (try_checkpoint ("x", &e), -1);
  CHECK_ERROR (&e, EOPNOTSUPP, "cbw-track=off");
  create ("x", SIZE);
  drop ("a", false);
  vanish ();
  track = true;
  serve ();
  expect_invalid ("b", CBW_POINT_UNTRACKED);
  drop ("b", false);
  checkpoint ("c");
  create ("d", SIZE);
  expect_delta ("c..d", "");
  /* A server that does not know of points has been here. */
  map_header (&segment.map)->compat = 0;
  vanish ();
  serve ();
  expect_invalid ("c", CBW_POINT_UNTRACKED);
  /* The host went down. */
  checkpoint ("e");
  memset (map_header (&segment.map)->boot_id, 1, 16);
  vanish ();
  serve ();
  expect_invalid ("c", CBW_POINT_UNTRACKED);
  expect_invalid ("e", CBW_POINT_REBOOT);
  end ();
}

static void
test_full (void)
{
  char name[32];
  struct error e;
  unsigned i;

  start ();
  for (i = 0; i < CBW_NR_POINTS; ++i) {
    snprintf (name, sizeof name, "point-%u", i);
    checkpoint (name);
    change (i % NR_CLUSTERS);
  }
  CHECK_EQ (try_checkpoint ("one-more", &e), -1);
  CHECK_ERROR (&e, ENOSPC, "256 snapshots and checkpoints");
  CHECK_EQ (try_create ("one-more", SIZE, &e), -1);
  CHECK_ERROR (&e, ENOSPC, "drop some");
  drop ("point-100", false);
  create ("b", SIZE);
  drop ("b", false);
  vanish ();
  serve ();
  create ("b", SIZE);
  {
    struct delta d;

    CHECK_EQ (delta_read (&segment, "point-150..b", &d, &e), 0);
    CHECK_EQ (bitmap_count (&d.bits, 0, NR_CLUSTERS), 106);
    delta_free (&d);
  }
  end ();
}

/* A point of a backup that has ended. */
static uint64_t
leave_backup (const char *name)
{
  struct points_draft draft;
  uint8_t uuid[16];
  uint64_t id;
  struct error e;

  make_uuid (name, uuid);
  CHECK_EQ (points_reserve (&engine.points, name, uuid, CBW_POINT_BACKUP,
                            &draft, &e), 0);
  id = table_next_id (&engine.table);
  points_commit (&engine.points, &draft, id, SIZE, 1);
  return id;
}

/* Backups' points go when their name is used again, all of them. */
static void
test_replaced (void)
{
  uint64_t first, second, other;

  start ();
  first = leave_backup ("x");
  change (1);
  second = leave_backup ("x");
  change (2);
  other = leave_backup ("y");
  change (3);
  checkpoint ("x");
  CHECK (!points_has (&engine.points, first) &&
         !points_has (&engine.points, second) &&
         points_has (&engine.points, other));
  create ("z", SIZE);
  expect_delta ("y..z", "3");
  expect_delta ("x..z", "");
  end ();
}

/* Points of backups make room, but not the one that the next backup needs. */
static void
test_room (void)
{
  const uint8_t uuid[16] = { 99 };
  struct points_draft draft;
  uint64_t older, newer;
  struct error e;
  char name[32];
  unsigned i;

  start ();
  older = leave_backup ("older");
  newer = leave_backup ("newer");
  for (i = 2; i < CBW_NR_POINTS; ++i) {
    snprintf (name, sizeof name, "point-%u", i);
    checkpoint (name);
  }
  CHECK_EQ (draft_point (&engine, "x", uuid, CBW_POINT_BACKUP, older, &draft,
                         &e), 0);
  CHECK (points_has (&engine.points, older) &&
         !points_has (&engine.points, newer));
  CHECK_EQ (draft_point (&engine, "y", uuid, CBW_POINT_BACKUP, older, &draft,
                         &e), -1);
  CHECK_ERROR (&e, ENOSPC, "drop some");
  checkpoint ("y");
  CHECK (!points_has (&engine.points, older));
  end ();
}

/* ---- At random, against a model ---- */

#define MOMENTS 12

static struct moment {
  bool point, snapshot;         /* what there is of it */
  bool bits[NR_CLUSTERS];       /* changed after it, before the next */
  char name[16];
} moments[MOMENTS];             /* by age */
static unsigned nr_moments;

static void
check_deltas (void)
{
  char name[64];
  struct delta d;
  struct error e;
  unsigned a, b, i, c;
  bool expected;

  for (a = 0; a < nr_moments; ++a)
    for (b = a; moments[a].point && b < nr_moments; ++b) {
      if (!moments[b].snapshot)
        continue;
      snprintf (name, sizeof name, "%s..%s", moments[a].name, moments[b].name);
      CHECK_EQ (delta_read (&segment, name, &d, &e), 0);
      for (c = 0; c < NR_CLUSTERS; ++c) {
        for (i = a, expected = false; i < b; ++i)
          expected = expected || moments[i].bits[c];
        CHECK_EQ (bitmap_test (&d.bits, c), expected);
      }
      delta_free (&d);
    }
}

static void
forget (unsigned i)
{
  unsigned c;

  for (c = 0; i > 0 && c < NR_CLUSTERS; ++c)
    moments[i - 1].bits[c] |= moments[i].bits[c];
  memmove (&moments[i], &moments[i + 1],
           (nr_moments - i - 1) * sizeof moments[0]);
  nr_moments--;
}

static void
drop_moment (uint64_t *seed)
{
  const unsigned i = (unsigned) (unit_random (seed) % nr_moments);
  const bool keep = moments[i].snapshot && unit_random (seed) % 2;

  drop (moments[i].name, keep);
  moments[i].snapshot = false;
  if (!keep)
    forget (i);
}

static void
make_moment (uint64_t *seed, unsigned n)
{
  struct moment *m = &moments[nr_moments++];

  *m = (struct moment) { .point = true, .snapshot = unit_random (seed) % 2 };
  snprintf (m->name, sizeof m->name, "m%u", n);
  if (m->snapshot)
    create (m->name, SIZE);
  else
    checkpoint (m->name);
}

static void
test_model (void)
{
  uint64_t seed = 1, c;
  unsigned n;

  start ();
  for (n = 0; n < 600; ++n)
    switch (unit_random (&seed) % 8) {
    case 0: case 1:
      if (nr_moments < MOMENTS)
        make_moment (&seed, n);
      break;
    case 2:
      if (nr_moments > 0)
        drop_moment (&seed);
      break;
    case 3:
      if (unit_random (&seed) % 4 == 0) {
        vanish ();
        serve ();
      }
      check_deltas ();
      break;
    default:
      c = unit_random (&seed) % NR_CLUSTERS;
      change (c);
      if (nr_moments > 0)
        moments[nr_moments - 1].bits[c] = true;
    }
  check_deltas ();
  end ();
}

/* ---- Guests that write all the time ---- */

static _Atomic (bool) stop;

#define GUESTS 3

/* Each has clusters of its own. */
static void *
busy_guest (void *opaque)
{
  const unsigned guest = (unsigned) (uintptr_t) opaque;
  uint64_t seed = guest + 1;

  while (!atomic_load (&stop))
    change (unit_random (&seed) % (NR_CLUSTERS / GUESTS) * GUESTS + guest);
  return NULL;
}

/* The first byte of each cluster, as the snapshot has it. */
static void
read_view (const char *name, unsigned char bytes[NR_CLUSTERS])
{
  uint64_t c;

  for (c = 0; c < NR_CLUSTERS; ++c)
    CHECK_EQ (serve_read (&engine, &env.source.image, id_of (name), &bytes[c],
                          1, c * CS), 0);
}

/* Each byte that differs between two snapshots is in the delta. */
static void
check_difference (const unsigned char *a, const unsigned char *b,
                  const char *name)
{
  struct delta d;
  struct error e;
  uint64_t c;

  CHECK_EQ (delta_read (&segment, name, &d, &e), 0);
  for (c = 0; c < NR_CLUSTERS; ++c)
    CHECK (bitmap_test (&d.bits, c) || a[c] == b[c]);
  delta_free (&d);
}

static void
test_busy (void)
{
  unsigned char views[2][NR_CLUSTERS];
  const char *names[2] = { "even", "odd" };
  pthread_t guests[GUESTS];
  unsigned n, j;

  start ();
  create (names[1], SIZE);
  read_view (names[1], views[1]);
  for (n = 0; n < 200; ++n) {
    atomic_store (&stop, false);
    for (j = 0; j < GUESTS; ++j)
      CHECK (pthread_create (&guests[j], NULL, busy_guest,
                             (void *) (uintptr_t) j) == 0);
    create (names[n % 2], SIZE);
    atomic_store (&stop, true);
    for (j = 0; j < GUESTS; ++j)
      pthread_join (guests[j], NULL);
    read_view (names[n % 2], views[n % 2]);
    check_difference (views[1 - n % 2], views[n % 2],
                      n % 2 ? "even..odd" : "odd..even");
    drop (names[1 - n % 2], false);
  }
  end ();
}

int
main (void)
{
  test_marks ();
  test_merge ();
  test_none ();
  test_growth ();
  test_takeover ();
  test_undone ();
  test_doubt ();
  test_full ();
  test_replaced ();
  test_room ();
  test_model ();
  test_busy ();
  return 0;
}
