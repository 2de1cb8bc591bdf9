/* SPDX-License-Identifier: BSD-3-Clause */

/* Deltas, read from a segment whose points are made here. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "points-env.h"
#include "segment-env.h"
#include "segment/delta.h"
#include "segment/segment-server.h"
#include "unit.h"

#define CS 4096
#define CLUSTERS 1000
#define SIZE ((uint64_t) CLUSTERS * CS)

static struct segment server;
static struct segment reader;
static struct error e;
static struct delta d;

/* The first segment's disk has "size" bytes.  The reader has an open file of
 * its own, as the server's locks are not seen through the server's.
 */
static void
start_size (uint64_t size)
{
  segment_env_start ();
  segment_env_serve (&server, size, CS);
  segment_env_publish (&server);
  reader = (struct segment) SEGMENT_INIT;
  CHECK (segment_look (&reader, segment_env.path, &e) == 0);
}

static void
start (void)
{
  start_size (SIZE);
}

static void
end (void)
{
  segment_close (&reader, false);
  segment_close (&server, true);
  segment_env_end ();
}

/* Mon, tue and wed are points and live snapshots, thu is a snapshot only. */
static void
make_week (void)
{
  static const char *names[] = { "mon", "tue", "wed" };
  unsigned i;

  for (i = 0; i < 3; ++i) {
    points_make (&server, i, 10 * (i + 1), names[i], SIZE);
    points_snapshot (&server, i, 10 * (i + 1), names[i], SIZE,
                     CBW_SNAPSHOT_LIVE);
  }
  points_snapshot (&server, 3, 40, "thu", SIZE, CBW_SNAPSHOT_LIVE);
}

/* The delta has exactly the clusters [a, b), [c, d2). */
static void
check_is (uint64_t a, uint64_t b, uint64_t c, uint64_t d2)
{
  uint64_t i;

  for (i = 0; i < d.bits.nbits; ++i)
    if (bitmap_test (&d.bits, i) != ((i >= a && i < b) || (i >= c && i < d2))) {
      fprintf (stderr, "cluster %" PRIu64 "\n", i);
      CHECK (false);
    }
}

static void
check_delta (const char *name, uint64_t a, uint64_t b, uint64_t c, uint64_t d2)
{
  if (delta_read (&reader, name, &d, &e) == -1) {
    fprintf (stderr, "%s: %s\n", name, e.msg);
    CHECK (false);
  }
  check_is (a, b, c, d2);
  delta_free (&d);
}

static void
check_refused (const char *name, int num, const char *text)
{
  CHECK (delta_read (&reader, name, &d, &e) == -1);
  CHECK_ERROR (&e, num, text);
  CHECK (d.bits.words == NULL);
}

/* ---- ---- */

static void
test_union (void)
{
  start ();
  make_week ();
  points_change (&server, 0, SIZE, 0, 3);
  points_change (&server, 1, SIZE, 2, 5);
  points_change (&server, 2, SIZE, 990, 1000);
  check_delta ("mon..mon", 0, 0, 0, 0);
  check_delta ("mon..tue", 0, 3, 0, 0);
  check_delta ("mon..wed", 0, 5, 0, 0);
  check_delta ("mon..thu", 0, 5, 990, 1000);
  check_delta ("mon..", 0, 5, 990, 1000);
  check_delta ("tue..wed", 2, 5, 0, 0);
  check_delta ("wed..", 0, 0, 990, 1000);

  /* An invalid point counts for older ones, and so does one that is being
   * merged.  One that is gone does not, though its bitmap is there.
   */
  points_set (&server, 1, CBW_POINT_INVALID);
  check_delta ("mon..wed", 0, 5, 0, 0);
  points_set (&server, 1, CBW_POINT_MERGING);
  check_delta ("mon..wed", 0, 5, 0, 0);
  points_set (&server, 1, CBW_POINT_EMPTY);
  check_delta ("mon..wed", 0, 3, 0, 0);
  end ();
}

static void
test_names (void)
{
  char name[300];

  CHECK (delta_is_name ("a..b") && delta_is_name ("..") &&
         delta_is_name ("a.."));
  CHECK (!delta_is_name ("a.b") && !delta_is_name (".") &&
         !delta_is_name (""));
  start ();
  check_refused ("a..b", ENOENT, "there is no snapshot or checkpoint \"a\"");
  make_week ();
  check_refused ("..", EINVAL, "\"..\" is no delta");
  check_refused ("..tue", EINVAL, "\"..tue\" is no delta");
  check_refused ("mon..tue..wed", EINVAL, "is no delta");
  check_refused ("mon.....tue", EINVAL, "is no delta");
  check_refused ("x..tue", ENOENT, "there is no snapshot or checkpoint \"x\"");
  check_refused ("mon..x", ENOENT, "there is no snapshot \"x\"");
  check_refused ("wed..tue", EINVAL, "\"wed\" is newer than \"tue\"");
  check_refused ("thu..", ENOENT, "there is no snapshot or checkpoint");

  memset (name, 'n', sizeof name);
  memcpy (name + 64, "..", 2);
  name[sizeof name - 1] = '\0';
  check_refused (name, EINVAL, "is no delta");
  memcpy (name + 63, "..", 2);
  check_refused (name, ENOENT, "there is no snapshot or checkpoint");
  memcpy (name, "mon..", 5);
  memcpy (name + 63, "nnn", 3);
  check_refused (name, ENOENT, "there is no snapshot \"nnn");
  end ();
}

/* Names may begin or end with a dot. */
static void
test_three_dots (void)
{
  start ();
  points_make (&server, 0, 1, "a", SIZE);
  points_make (&server, 1, 2, "a.", SIZE);
  points_snapshot (&server, 2, 3, ".b", SIZE, CBW_SNAPSHOT_LIVE);
  points_change (&server, 0, SIZE, 7, 8);
  check_delta ("a...b", 7, 8, 0, 0);            /* "b" is no snapshot */
  check_delta ("a....b", 0, 0, 0, 0);
  points_snapshot (&server, 3, 4, "b", SIZE, CBW_SNAPSHOT_LIVE);
  points_set (&server, 0, CBW_POINT_EMPTY);
  check_delta ("a...b", 0, 0, 0, 0);            /* "a" is no point */
  points_set (&server, 0, CBW_POINT_VALID);
  check_refused ("a...b", EINVAL, "could be two deltas");
  check_delta ("a...", 0, 0, 0, 0);             /* from "a." */
  end ();
}

static void
test_refused (void)
{
  start ();
  make_week ();
  points_set (&server, 0, CBW_POINT_INVALID);
  map_point (&server.map, 0)->reason = CBW_POINT_SOURCE;
  check_refused ("mon..tue", ESTALE, "changes since \"mon\" are not known any "
                 "more: the disk was changed while it was not served; make a "
                 "full copy");
  points_set (&server, 0, CBW_POINT_MERGING);
  check_refused ("mon..tue", ENOENT, "there is no snapshot or checkpoint");
  points_set (&server, 0, CBW_POINT_VALID);
  atomic_store (&map_header (&server.map)->confirmed_id, 19);
  check_refused ("mon..tue", EAGAIN, "snapshot \"tue\" is being made");

  points_snapshot (&server, 1, 20, "tue", SIZE, CBW_SNAPSHOT_BROKEN);
  check_refused ("mon..tue", EIO, "snapshot \"tue\" is broken");
  points_snapshot (&server, 1, 20, "tue", SIZE, CBW_SNAPSHOT_HIDDEN);
  check_refused ("mon..tue", ENOENT, "there is no snapshot \"tue\"");
  map_snapshot (&server.map, 1)->options.backup = 1;
  points_snapshot (&server, 1, 20, "tue", SIZE, CBW_SNAPSHOT_LIVE);
  map_snapshot (&server.map, 1)->job.state = CBW_JOB_COMPLETE;
  check_refused ("mon..tue", ENOENT, "backup \"tue\" is complete");
  end ();
}

/* All behind A's size is in the delta, from the cluster of A's end on, even if
 * the disk was smaller only in between.
 */
static void
test_size (void)
{
  start ();
  points_make (&server, 0, 1, "a", 100 * CS + 1);
  points_make (&server, 1, 2, "b", 200 * CS);
  points_snapshot (&server, 1, 2, "b", 200 * CS, CBW_SNAPSHOT_LIVE);
  points_snapshot (&server, 2, 3, "c", 300 * CS - 1, CBW_SNAPSHOT_LIVE);
  points_change (&server, 0, 100 * CS + 1, 3, 4);
  points_change (&server, 1, 200 * CS, 150, 151);
  check_delta ("a..b", 3, 4, 100, 200);
  check_delta ("a..c", 3, 4, 100, 300);
  check_delta ("b..c", 150, 151, 200, 300);

  /* The end of a cluster is the end of the delta, too. */
  points_snapshot (&server, 3, 4, "d", 200 * CS, CBW_SNAPSHOT_LIVE);
  check_delta ("b..d", 150, 151, 0, 0);
  points_make (&server, 2, 3, "small", 50 * CS);
  check_delta ("b..d", 50, 200, 0, 0);

  /* B may be smaller than the bitmaps. */
  points_snapshot (&server, 3, 4, "d", 20 * CS + 5, CBW_SNAPSHOT_LIVE);
  check_delta ("a..d", 3, 4, 0, 0);
  points_snapshot (&server, 3, 4, "d", 0, CBW_SNAPSHOT_LIVE);
  check_delta ("a..d", 0, 0, 0, 0);
  points_snapshot (&server, 3, 4, "d", UINT64_C (1) << 40, CBW_SNAPSHOT_LIVE);
  check_refused ("a..d", EFBIG, "no room");
  end ();
}

/* What is in the words behind the last bit is of nobody. */
static void
test_last_word (void)
{
  static const uint64_t sizes[] = { 63, 64, 65, 127, 128, 1000 };
  uint64_t n;
  unsigned i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    n = sizes[i];
    start ();
    points_make (&server, 0, 1, "a", n * CS);
    points_snapshot (&server, 1, 2, "b", n * CS, CBW_SNAPSHOT_LIVE);
    points_change (&server, 0, (n + 200) * CS, n - 1, n + 200);
    check_delta ("a..b", n - 1, n, 0, 0);
    /* Bits for more than the point had are not believed, nor needed. */
    points_snapshot (&server, 1, 2, "b", (n + 3) * CS, CBW_SNAPSHOT_LIVE);
    check_delta ("a..b", n - 1, n + 3, 0, 0);
    CHECK (delta_read (&reader, "a..b", &d, &e) == 0);
    CHECK_EQ (delta_bytes (&d), 4 * CS);
    delta_free (&d);
    end ();
  }
}

static void
check_run (uint64_t offset, uint64_t limit, bool is_in, uint64_t expected)
{
  uint64_t run;

  CHECK_EQ (delta_run (&d, offset, limit, &run), is_in);
  CHECK_EQ (run, expected);
}

static void
test_runs (void)
{
  const uint64_t size = 127 * CS + 100;

  start ();
  points_make (&server, 0, 1, "a", size);
  points_snapshot (&server, 1, 2, "b", size, CBW_SNAPSHOT_LIVE);
  points_change (&server, 0, size, 64, 66);
  points_change (&server, 0, size, 127, 128);
  CHECK (delta_read (&reader, "a..b", &d, &e) == 0);
  CHECK_EQ (delta_bytes (&d), 2 * CS + 100);
  check_run (0, size, false, 64 * CS);
  check_run (0, 1, false, 1);
  check_run (64 * CS - 1, size, false, 64 * CS);
  check_run (64 * CS - 1, 64 * CS, false, 64 * CS);
  check_run (64 * CS, 64 * CS + 1, true, 64 * CS + 1);
  check_run (65 * CS + 7, size, true, 66 * CS);
  check_run (66 * CS, size, false, 127 * CS);
  check_run (127 * CS, size, true, size);
  check_run (size - 1, size, true, size);
  delta_free (&d);
  CHECK (d.bits.words == NULL);
  delta_free (&d);

  /* The last cluster is whole. */
  points_snapshot (&server, 1, 2, "b", 128 * CS, CBW_SNAPSHOT_LIVE);
  CHECK (delta_read (&reader, "a..b", &d, &e) == 0);
  CHECK_EQ (delta_bytes (&d), 3 * CS);
  check_run (127 * CS, 128 * CS, true, 128 * CS);
  delta_free (&d);

  points_snapshot (&server, 1, 2, "b", 0, CBW_SNAPSHOT_LIVE);
  CHECK (delta_read (&reader, "a..b", &d, &e) == 0);
  CHECK_EQ (delta_bytes (&d), 0);
  delta_free (&d);
  end ();
}

/* Larger than what is read at a time. */
static void
test_chunks (void)
{
  const uint64_t clusters = UINT64_C (5) << 20;

  start_size (clusters * CS);
  points_make (&server, 0, 1, "a", clusters * CS);
  points_snapshot (&server, 1, 2, "b", clusters * CS, CBW_SNAPSHOT_LIVE);
  points_change (&server, 0, clusters * CS, (2 << 20) - 1, (2 << 20) + 1);
  points_change (&server, 0, clusters * CS, clusters - 1, clusters);
  check_delta ("a..b", (2 << 20) - 1, (2 << 20) + 1, clusters - 1, clusters);
  end ();
}

static void
test_now (void)
{
  struct point p;

  start ();
  make_week ();
  points_change (&server, 0, SIZE, 0, 3);
  points_change (&server, 2, SIZE, 500, 501);
  points_set (&server, 0, CBW_POINT_INVALID);
  CHECK (point_find (&reader.map, "mon", &p));
  CHECK (delta_read_now (&reader, &p, SIZE, &d, &e) == 0);
  CHECK_EQ (d.to.index, CBW_NR_SNAPSHOTS);
  check_is (0, 3, 500, 501);
  delta_free (&d);
  end ();
}

/* ---- Damage ---- */

static void
test_damaged (void)
{
  struct cbw_point *p;

  start ();
  make_week ();
  points_change (&server, 1, SIZE, 2, 5);
  /* Nobody knows which changes a damaged point has. */
  p = map_point (&server.map, 1);
  p->size++;
  check_refused ("mon..wed", EBADMSG, "record 1 of its points makes no sense");
  p->size--;
  points_set (&server, 1, 4);
  check_refused ("mon..wed", EBADMSG, "record 1");
  points_set (&server, 1, CBW_POINT_VALID);
  check_delta ("mon..wed", 2, 5, 0, 0);

  /* A point without a bitmap. */
  p = map_point (&server.map, 9);
  *p = (struct cbw_point) { .id = 15, .size = SIZE, .name = "x" };
  p->sum = point_sum (p);
  points_set (&server, 9, CBW_POINT_VALID);
  check_refused ("mon..wed", EBADMSG, "no changed bitmap of point \"x\"");
  check_delta ("tue..wed", 2, 5, 0, 0);
  end ();
}

static void
test_truncated (void)
{
  start ();
  make_week ();
  /* The last page of the last bitmap, wed's, is gone. */
  CHECK (ftruncate (server.fd,
                    (off_t) (server.map.changed[2] + CBW_PAGE - 1)) == 0);
  check_delta ("mon..wed", 0, 0, 0, 0);
  check_refused ("mon..thu", EBADMSG, "wed");
  end ();
}

/* ---- Changes meanwhile ---- */

static void
set_generation (uint64_t generation)
{
  atomic_store (&map_header (&server.map)->chain_generation, generation);
}

static void
test_odd_generation (void)
{
  start ();
  make_week ();
  points_change (&server, 0, SIZE, 0, 3);
  set_generation (7);
  check_refused ("mon..tue", EAGAIN, "change all the time; try again");
  /* The server dies, with its lock. */
  segment_close (&server, false);
  check_delta ("mon..tue", 0, 3, 0, 0);
  segment_close (&reader, false);
  CHECK (unlink (segment_env.path) == 0);
  segment_env_end ();
}

static _Atomic (bool) stop;

static void
pause_shortly (void)
{
  const struct timespec ts = { .tv_nsec = 1000 * 1000 };

  nanosleep (&ts, NULL);
}

/* A server which drops tue as it is to be done: its bits go to mon, then it
 * goes, and its record and bitmap are those of another point.
 */
static void *
drop_and_make (void *opaque)
{
  const struct bitmap mon = map_changed (&server.map, 0, SIZE);
  const struct bitmap tue = map_changed (&server.map, 1, SIZE);
  struct cbw_point *p = map_point (&server.map, 1);
  uint64_t generation = 0, id = 20;

  (void) opaque;
  while (!stop) {
    set_generation (++generation);
    bitmap_clear (&tue, 700, 701);
    p->id = ++id;
    p->sum = point_sum (p);
    points_set (&server, 1, CBW_POINT_VALID);
    bitmap_set (&tue, 2, 5);
    bitmap_clear (&mon, 0, CLUSTERS);
    set_generation (++generation);
    pause_shortly ();
    points_set (&server, 1, CBW_POINT_MERGING);
    bitmap_set (&mon, 2, 5);
    points_set (&server, 1, CBW_POINT_EMPTY);
    bitmap_clear (&tue, 2, 5);
    bitmap_set (&tue, 700, 701);        /* as one newer than wed has */
    pause_shortly ();
  }
  return NULL;
}

static void
test_merged_meanwhile (void)
{
  pthread_t thread;
  unsigned i;

  start ();
  points_make (&server, 0, 10, "mon", SIZE);
  points_make (&server, 1, 20, "tue", SIZE);
  points_snapshot (&server, 2, 1000000, "wed", SIZE, CBW_SNAPSHOT_LIVE);
  points_change (&server, 0, SIZE, 2, 5);
  stop = false;
  CHECK (pthread_create (&thread, NULL, drop_and_make, NULL) == 0);
  for (i = 0; i < 4000; ++i)
    check_delta ("mon..wed", 2, 5, 0, 0);
  stop = true;
  CHECK (pthread_join (thread, NULL) == 0);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_union);
  RUN (test_names);
  RUN (test_three_dots);
  RUN (test_refused);
  RUN (test_size);
  RUN (test_last_word);
  RUN (test_runs);
  RUN (test_chunks);
  RUN (test_now);
  RUN (test_damaged);
  RUN (test_truncated);
  RUN (test_odd_generation);
  RUN (test_merged_meanwhile);
  return unit_end ();
}
