/* SPDX-License-Identifier: BSD-3-Clause */

/* Delta exports: sharing, what is listed, and their extents by what a view
 * made here says.
 */

#include <config.h>

#include <errno.h>

#include "delta-export.h"
#include "points-env.h"
#include "segment-env.h"
#include "unit.h"

#define CS 4096
#define CLUSTERS 100000
#define SIZE ((uint64_t) CLUSTERS * CS)

static struct segment server;
static struct snapshot_info to;
static struct error e;

static void
start (void)
{
  segment_env_start ();
  segment_env_serve (&server, SIZE, CS);
  segment_env_publish (&server);
  points_make (&server, 0, 1, "a", SIZE);
  points_make (&server, 1, 2, "b", SIZE);
  points_snapshot (&server, 1, 2, "b", SIZE, CBW_SNAPSHOT_LIVE);
  points_snapshot (&server, 2, 3, "c", SIZE, CBW_SNAPSHOT_LIVE);
}

static void
end (void)
{
  segment_close (&server, true);
  segment_env_end ();
}

static void
test_shared (void)
{
  struct delta_export *x, *y, *z;

  start ();
  points_change (&server, 0, SIZE, 3, 4);
  x = delta_export_open (&server, "a..b", &to, &e);
  CHECK (x != NULL && x->bytes == CS && to.id == 2);
  y = delta_export_open (&server, "a..b", &to, &e);
  z = delta_export_open (&server, "a..c", &to, &e);
  CHECK (y == x);
  CHECK (z != NULL && z != x && z->bytes == CS && to.id == 3);
  delta_export_close (x);
  CHECK_EQ (y->refs, 1);

  /* What is open does not change, and others see what has been added. */
  points_change (&server, 0, SIZE, 5, 6);
  x = delta_export_open (&server, "a..b", &to, &e);
  CHECK (x != NULL && x != y && x->bytes == 2 * CS && y->bytes == CS);
  delta_export_close (x);

  /* One that is open is no way around what is refused. */
  points_set (&server, 0, CBW_POINT_INVALID);
  CHECK (delta_export_open (&server, "a..b", &to, &e) == NULL);
  CHECK_ERROR (&e, ESTALE, "make a full copy");
  points_set (&server, 0, CBW_POINT_VALID);
  delta_export_close (y);

  x = delta_export_open (&server, "a..b", &to, &e);
  CHECK (x != NULL && x->bytes == 2 * CS);
  delta_export_close (z);
  delta_export_close (x);
  end ();
}

static bool
lists (unsigned i, struct delta_listed *listed)
{
  struct snapshot_info info;

  CHECK (entry_read (&server.map, i, &info));
  return delta_export_list (&server, &info, listed);
}

static void
test_listed (void)
{
  struct delta_listed l;

  start ();
  points_change (&server, 0, SIZE, 10, 2310);
  CHECK (lists (1, &l) && strcmp (l.name, "a..b") == 0);
  CHECK (strcmp (l.text, "changes from \"a\" to \"b\", 9420800 bytes of "
                 "409600000 (2.3 %)") == 0);
  CHECK (lists (2, &l) && strcmp (l.name, "b..c") == 0);
  CHECK (strstr (l.text, "0 bytes of 409600000 (0.0 %)"));

  /* The neighbour is another one now. */
  points_set (&server, 1, CBW_POINT_INVALID);
  CHECK (lists (2, &l) && strcmp (l.name, "a..c") == 0);
  CHECK (strstr (l.text, "9420800 bytes"));
  points_snapshot (&server, 2, 3, "c", SIZE, CBW_SNAPSHOT_BROKEN);
  CHECK (!lists (2, &l));
  points_set (&server, 0, CBW_POINT_INVALID);
  CHECK (!lists (1, &l));
  points_set (&server, 0, CBW_POINT_VALID);
  CHECK (lists (1, &l));

  /* The entry and the record of others. */
  points_snapshot (&server, 1, 5, "d", SIZE, CBW_SNAPSHOT_LIVE);
  points_make (&server, 0, 4, "n", SIZE);
  CHECK (lists (1, &l) && strcmp (l.name, "n..d") == 0);
  CHECK (strstr (l.text, " 0 bytes"));

  points_change (&server, 0, SIZE, 0, 1);
  CHECK (lists (1, &l) && strstr (l.text, " 0 bytes"));
  points_snapshot (&server, 1, 6, "d", SIZE, CBW_SNAPSHOT_LIVE);
  CHECK (lists (1, &l) && strstr (l.text, " 4096 bytes"));

  /* "x..x" would be from the snapshot to itself. */
  points_make (&server, 0, 1, "x", SIZE);
  points_snapshot (&server, 1, 3, "x", SIZE, CBW_SNAPSHOT_LIVE);
  CHECK (lists (1, &l) && strcmp (l.name, "x..x") == 0);
  points_make (&server, 5, 3, "x", SIZE);
  CHECK (!lists (1, &l));
  end ();
}

/* ---- Extents ---- */

/* The view has data in clusters whose number is a multiple of "data_every", and
 * else zeroes.  It says so as far as it is asked and "beyond" bytes more.
 */
static uint64_t data_every, beyond;
static unsigned asks;
static int ask_result;
static bool view_is_silent;

static int
ask (void *handle, uint32_t count, uint64_t offset,
     int (*add) (void *opaque, uint64_t offset, uint64_t length,
                 uint32_t type),
     void *opaque)
{
  const uint64_t limit = offset + count + beyond < SIZE ?
    offset + count + beyond : SIZE;
  uint64_t next;
  bool data;

  CHECK (handle == &asks);
  asks++;
  if (ask_result != 0 || view_is_silent)
    return ask_result;
  for (; offset < limit; offset = next) {
    data = offset / CS % data_every == 0;
    for (next = offset; next < limit && (next / CS % data_every == 0) == data;
         next = (next / CS + 1) * CS)
      ;
    if (next > limit)
      next = limit;
    if (add (opaque, offset, next - offset,
             data ? 0 : CBW_EXTENT_HOLE | CBW_EXTENT_ZERO) == -1)
      return ENOMEM;
  }
  return 0;
}

static const struct delta_view view = { .ask = ask, .handle = &asks };

static struct {
  uint64_t next;                /* where an extent must begin */
  unsigned nr, enough;
  uint64_t bytes[4];            /* by type */
} got;

static int
add (void *opaque, uint64_t offset, uint64_t length, uint32_t type)
{
  const struct delta *d = opaque;
  uint64_t run, c;

  CHECK_EQ (offset, got.next);
  CHECK (length > 0 && type < 4);
  for (c = offset / CS; c * CS < offset + length; ++c)
    if (!delta_run (d, c * CS, c * CS + 1, &run))
      CHECK_EQ (type, CBW_EXTENT_HOLE);
    else
      CHECK_EQ (type, c % data_every == 0 ? 0 :
                CBW_EXTENT_HOLE | CBW_EXTENT_ZERO);
  got.next = offset + length;
  got.bytes[type] += length;
  return ++got.nr == got.enough ? -1 : 0;
}

static int
extents (struct delta_export *x, uint32_t count, uint64_t offset, bool one)
{
  asks = 0;
  got.next = offset;
  got.nr = 0;
  memset (got.bytes, 0, sizeof got.bytes);
  return delta_export_extents (&x->delta, count, offset, one, &view, add,
                               &x->delta);
}

static void
test_extents (void)
{
  struct delta_export *x;

  start ();
  points_change (&server, 0, SIZE, 10, 12);
  points_change (&server, 0, SIZE, 20, 22);
  points_change (&server, 0, SIZE, CLUSTERS - 1, CLUSTERS);
  x = delta_export_open (&server, "a..b", &to, &e);
  CHECK (x != NULL);
  data_every = 10;
  beyond = 0;

  CHECK_EQ (extents (x, (uint32_t) SIZE, 0, false), 0);
  CHECK_EQ (asks, 3);
  CHECK_EQ (got.next, SIZE);
  CHECK_EQ (got.bytes[0], 2 * CS);
  CHECK_EQ (got.bytes[3], 3 * CS);
  CHECK_EQ (got.bytes[1], SIZE - 5 * CS);

  /* Outside of the delta nobody is asked, and more is told than asked for. */
  CHECK_EQ (extents (x, 512, 22 * CS, false), 0);
  CHECK_EQ (asks, 0);
  CHECK_EQ (got.next, SIZE - CS);
  CHECK_EQ (extents (x, 512, 10 * CS - 512, false), 0);
  CHECK_EQ (asks, 0);

  /* Odd ends; and what the view says beyond the run is not told of it. */
  CHECK_EQ (extents (x, 2, 11 * CS + 1, false), 0);
  CHECK_EQ (got.next, 11 * CS + 3);
  beyond = 5 * CS;
  CHECK_EQ (extents (x, 2, 11 * CS + 1, false), 0);
  CHECK_EQ (got.next, 12 * CS);
  CHECK_EQ (got.bytes[3], CS - 1);
  CHECK_EQ (extents (x, 12 * CS, 10 * CS, false), 0);
  CHECK_EQ (got.next, 22 * CS);

  /* One extent. */
  CHECK_EQ (extents (x, (uint32_t) SIZE, 0, true), 0);
  CHECK_EQ (asks, 1);
  CHECK_EQ (got.next, 10 * CS);
  CHECK_EQ (extents (x, (uint32_t) SIZE, 10 * CS, true), 0);
  CHECK_EQ (asks, 1);
  CHECK_EQ (got.next, 11 * CS);

  /* Failures. */
  ask_result = EIO;
  CHECK_EQ (extents (x, 12 * CS, 0, false), EIO);
  CHECK_EQ (extents (x, 10 * CS, 0, false), 0);
  ask_result = 0;
  view_is_silent = true;
  CHECK_EQ (extents (x, 12 * CS, 0, false), EIO);
  view_is_silent = false;
  for (got.enough = 1; got.enough < 4; ++got.enough)
    CHECK_EQ (extents (x, 12 * CS, 0, false), ENOMEM);
  got.enough = 0;
  delta_export_close (x);
  end ();
}

/* Each second cluster has changed: a request ends before it takes long, and
 * what the view has said of all of them is used.
 */
static void
test_many_runs (void)
{
  struct delta_export *x;
  uint64_t c, offset;

  start ();
  for (c = 0; c < CLUSTERS; c += 2)
    points_change (&server, 0, SIZE, c, c + 1);
  x = delta_export_open (&server, "a..b", &to, &e);
  CHECK (x != NULL);
  data_every = 2;
  beyond = 0;
  for (offset = 0; offset < SIZE; offset = got.next) {
    CHECK_EQ (extents (x, (uint32_t) (SIZE - offset), offset, false), 0);
    CHECK (got.next > offset && asks <= 1025);
  }
  data_every = 1;
  beyond = SIZE;
  CHECK_EQ (extents (x, (uint32_t) SIZE, 0, false), 0);
  CHECK_EQ (got.next, SIZE);
  CHECK_EQ (asks, 1);
  delta_export_close (x);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_shared);
  RUN (test_listed);
  RUN (test_extents);
  RUN (test_many_runs);
  return unit_end ();
}
