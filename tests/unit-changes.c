/* SPDX-License-Identifier: BSD-3-Clause */

/* How much has changed since each point: the same as each delta says for
 * itself, which is read in another way.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>

#include "segment-env.h"
#include "segment/changes.h"
#include "segment/delta.h"
#include "segment/segment-server.h"
#include "unit.h"
#include "utils/clock.h"

#define CS 4096

static struct segment server, looker;
static struct change list[CBW_NR_POINTS];
static size_t nr;
static uint64_t seed = 15;

static void
start (uint64_t size)
{
  segment_env_serve (&server, size, CS);
  segment_env_publish (&server);
}

static void
look (void)
{
  struct error e;

  looker = (struct segment) SEGMENT_INIT;
  CHECK (segment_look (&looker, segment_env.path, &e) == 0);
}

static void
end (void)
{
  segment_close (&looker, false);
  segment_close (&server, true);
}

/* Make point i, with a cleared bitmap. */
static struct bitmap
make_point (unsigned i, uint64_t id, uint64_t size,
            enum cbw_point_state state)
{
  struct cbw_point *p = map_point (&server.map, i);
  struct error e;

  CHECK (segment_allocate_changed (&server, i, &e) == 0);
  *p = (struct cbw_point) { .id = id, .size = size };
  snprintf (p->name, sizeof p->name, "p%" PRIu64, id);
  p->sum = point_sum (p);
  atomic_store (&p->state, state);
  return map_changed (&server.map, i, size);
}

static void
read_changes (uint64_t size)
{
  struct error e;

  CHECK (changes_read (&looker, size, 0, list, &nr, &e) == 0);
}

/* Compare them with the deltas, one by one. */
static void
compare (uint64_t size)
{
  struct delta d;
  struct error e;
  size_t i;

  for (i = 0; i < nr; ++i) {
    CHECK (delta_read_now (&looker, &list[i].point, size, &d, &e) == 0);
    CHECK_EQ (list[i].bytes, delta_bytes (&d));
    delta_free (&d);
  }
}

/* Runs of bits, few or many, also at the very end. */
static void
set_some (const struct bitmap *b)
{
  const uint64_t n = unit_random (&seed) % 20;
  uint64_t i, first, last;

  for (i = 0; i < n; ++i) {
    first = unit_random (&seed) % b->nbits;
    last = first + unit_random (&seed) % 300;
    bitmap_set (b, first, last < b->nbits ? last : b->nbits);
  }
  if (unit_random (&seed) % 4 == 0)
    bitmap_set (b, b->nbits - 1, b->nbits);
}

static void
try_random (void)
{
  /* Bitmaps of more than one chunk. */
  const uint64_t base = (UINT64_C (700000) + unit_random (&seed) % 200) * CS;
  const unsigned points = 1 + (unsigned) (unit_random (&seed) % 6);
  uint64_t size = base;
  struct bitmap b;
  unsigned i;

  start (base);
  for (i = 0; i < points; ++i) {
    if (unit_random (&seed) % 3 == 0)
      size += unit_random (&seed) % (40 * CS);
    /* Their places in the table say nothing about their age. */
    b = make_point (points - i, 10 + i, size, unit_random (&seed) % 4 == 0 ?
                    CBW_POINT_MERGING : CBW_POINT_VALID + i % 2);
    set_some (&b);
  }
  size += unit_random (&seed) % 2 * (unit_random (&seed) % (10 * CS));
  look ();
  read_changes (size);
  compare (size);
  end ();
}

static void
test_random (void)
{
  unsigned i;

  for (i = 0; i < 60; ++i)
    try_random ();
}

/* By hand, as both could be wrong in the same way. */
static void
test_known (void)
{
  struct bitmap b;

  start (100 * CS - 1000);
  b = make_point (0, 1, 100 * CS - 1000, CBW_POINT_VALID);
  bitmap_set (&b, 0, 2);
  b = make_point (1, 2, 100 * CS - 1000, CBW_POINT_MERGING);
  bitmap_set (&b, 1, 4);
  b = make_point (2, 3, 100 * CS - 1000, CBW_POINT_INVALID);
  bitmap_set (&b, 99, 100);
  look ();
  read_changes (100 * CS - 1000);
  CHECK_EQ (nr, 2);
  CHECK_EQ (list[0].point.id, 1);
  CHECK_EQ (list[0].bytes, 5 * CS - 1000);
  CHECK_EQ (list[1].point.id, 3);
  CHECK_EQ (list[1].bytes, CS - 1000);

  /* It has grown into its last cluster, and beyond. */
  read_changes (102 * CS);
  CHECK_EQ (list[0].bytes, 7 * CS);
  CHECK_EQ (list[1].bytes, 3 * CS);
  end ();
}

/* Bits behind a hole, in the chunk with it and in the next. */
static void
test_holes (void)
{
  const uint64_t size = UINT64_C (1000000) * CS;
  struct bitmap b;

  start (size);
  b = make_point (0, 1, size, CBW_POINT_VALID);
  bitmap_set (&b, 8 * 40000, 8 * 40000 + 3);
  bitmap_set (&b, 8 * 110000, 8 * 110000 + 4);
  CHECK (fallocate (server.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t) server.map.changed[0], 32768) == 0);
  CHECK (fallocate (server.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t) server.map.changed[0] + 65536, 32768) == 0);
  look ();
  read_changes (size);
  CHECK_EQ (list[0].bytes, 7 * CS);
  end ();
}

static void
test_nothing (void)
{
  start (CS);
  look ();
  read_changes (CS);
  CHECK_EQ (nr, 0);
  read_changes (0);
  CHECK_EQ (nr, 0);
  end ();
}

static void
refused (uint64_t size, uint64_t until_ns, int num, const char *text)
{
  struct error e;

  CHECK (changes_read (&looker, size, until_ns, list, &nr, &e) == -1);
  CHECK_ERROR (&e, num, text);
}

static void
test_refused (void)
{
  struct bitmap b;

  start (100 * CS);
  b = make_point (0, 1, 100 * CS, CBW_POINT_VALID);
  bitmap_set (&b, 0, 1);
  look ();
  refused (UINT64_MAX, 0, EFBIG, "has no room for the changes of a disk");
  refused (100 * CS, now_monotonic_ns () - 1, ETIME, "takes too long");

  /* A damaged one may be newer than it. */
  map_point (&server.map, 7)->state = CBW_POINT_VALID;
  refused (100 * CS, 0, EBADMSG, "point 7 is damaged");
  map_point (&server.map, 7)->state = CBW_POINT_EMPTY;

  /* A server that has gone may leave an odd generation, one that works not. */
  atomic_store (&map_header (&server.map)->chain_generation, 7);
  refused (100 * CS, 0, EAGAIN, "its snapshots change all the time");
  segment_close (&server, false);
  read_changes (100 * CS);
  CHECK_EQ (list[0].bytes, CS);

  /* A point whose bitmap is cut off. */
  CHECK (truncate (segment_env.path, (off_t)
                   (map_header (&looker.map)->geometry.bitmaps_offset)) == 0);
  refused (100 * CS, 0, EBADMSG, "there is no changed bitmap of point \"p1\"");
  CHECK (unlink (segment_env.path) == 0);
  end ();
}

int
main (void)
{
  unit_start ();
  segment_env_start ();
  RUN (test_known);
  RUN (test_holes);
  RUN (test_nothing);
  RUN (test_random);
  RUN (test_refused);
  segment_env_end ();
  return unit_end ();
}
