/* SPDX-License-Identifier: BSD-3-Clause */

/* No region gets cold before the marks of its changes are on stable storage,
 * when a server starts and when it ends; and a checkpoint is not made if it does
 * not come there.
 */

#include <config.h>

#include <errno.h>
#include <sys/mman.h>

#include "engine-env.h"
#include "lifecycle/cool.h"
#include "lifecycle/lifecycle.h"
#include "segment-env.h"
#include "segment/segment-server.h"
#include "unit.h"

#define CS 4096
#define NR_CLUSTERS 128

static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;

static bool was_hot;            /* when all of the segment was written last */
static int fail;                /* errno of such a write */

/* In place of the library's. */
int
msync (void *addr, size_t len, int flags)
{
  (void) flags;
  if (addr != segment.map.base || len == CBW_PAGE)
    return 0;
  was_hot = bitmap_next_set (&engine.hot.bits, 0, engine.hot.bits.nbits) <
    engine.hot.bits.nbits;
  errno = fail;
  return fail ? -1 : 0;
}

static int
can_flush (nbdkit_next *next)
{
  (void) next;
  return 1;
}

static int
flush (nbdkit_next *next, uint32_t flags, int *err)
{
  (void) next;
  (void) flags;
  (void) err;
  return 0;
}

/* As server.c does it. */
static void
serve (void)
{
  struct cbw_header *h;
  struct error e;

  segment_env_serve (&segment, NR_CLUSTERS * CS, CS);
  h = map_header (&segment.map);
  engine_init (&engine);
  engine_set_source (&engine, &env.source);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  generation_attach (&engine.generation, &h->chain_generation);
  points_attach (&engine.points, &segment, &engine.generation, true, true);
  CHECK (hot_attach (&engine.hot, &segment, &engine.points, true, true,
                     &e) == 0);
  if (!segment.fresh)
    CHECK (takeover_snapshots (&engine, &segment, env.disk.fake.size,
                               &e) == 0);
  was_hot = false;
  cool_start (&engine, false);
  h->compat = CBW_COMPAT_TRACKED;
  h->durable = 1;
  segment_env_publish (&segment);
}

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
  env.disk.ops.can_flush = can_flush;
  env.disk.ops.flush = flush;
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

static int
try_checkpoint (const char *name, struct error *e)
{
  const uint8_t uuid[16] = { (uint8_t) name[0] };
  uint64_t held_ns;

  return create_checkpoint (&engine, &segment, name, uuid, NR_CLUSTERS * CS, 0,
                            &held_ns, e);
}

static void
checkpoint (const char *name)
{
  struct error e;

  CHECK_EQ (try_checkpoint (name, &e), 0);
}

static void
change (void)
{
  struct guest_change write;

  CHECK_EQ (engine_guest_begin (&engine, &env.source.image, 0, 1, GUEST_WRITE,
                                NULL, &write), 0);
  engine_guest_end (&engine, &write, false);
}

static bool
is_cold (void)
{
  return bitmap_next_set (&engine.hot.bits, 0, engine.hot.bits.nbits) ==
    engine.hot.bits.nbits;
}

/* The last server was killed, and the host goes down at any moment now. */
static void
test_start (void)
{
  start ();
  checkpoint ("a");
  change ();
  CHECK (!is_cold ());
  vanish ();
  serve ();
  CHECK (is_cold ());
  end ();
}

static void
test_start_first_write (void)
{
  start ();
  checkpoint ("a");
  change ();
  vanish ();
  fail = EIO;
  serve ();
  fail = 0;
  CHECK (was_hot && !is_cold ());
  end ();
}

static void
test_stop (void)
{
  start ();
  checkpoint ("a");
  change ();
  was_hot = false;
  cool_stop (&engine);
  CHECK (was_hot && is_cold ());
  change ();
  fail = EIO;
  cool_stop (&engine);
  fail = 0;
  CHECK (!is_cold ());
  end ();
}

/* A checkpoint that is not on disk is none. */
static void
test_not_written (void)
{
  struct error e;

  start ();
  fail = EIO;
  CHECK_EQ (try_checkpoint ("a", &e), -1);
  CHECK_ERROR (&e, EIO, "could not be written to disk");
  fail = 0;
  CHECK_EQ (points_newest (&engine.points), 0);
  checkpoint ("a");
  end ();
}

int
main (void)
{
  unit_start ();
  segment_env_start ();
  /* Where the segment is in memory there is nothing to be durable. */
  segment_env_serve (&segment, CS, CS);
  if (segment_is_volatile (&segment))
    return 77;
  segment_close (&segment, true);
  segment_env_end ();
  RUN (test_start);
  RUN (test_start_first_write);
  RUN (test_stop);
  RUN (test_not_written);
  return unit_end ();
}
