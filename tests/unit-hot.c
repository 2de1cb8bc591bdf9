/* SPDX-License-Identifier: BSD-3-Clause */

/* The temperatures of regions, and what happens to them while a guest waits for
 * the segment's disk.
 */

#include <config.h>

#include <sys/mman.h>
#include <sys/syscall.h>

#include "points/hot.h"
#include "segment-env.h"
#include "unit.h"

#define CS 4096
#define SIZE (UINT64_C (1) << 30)

static struct segment segment;
static struct points points;
static struct hot hot;

/* What happens in the middle of a write to the segment's disk, once. */
static void (*meanwhile) (void);

/* In place of the library's. */
int
msync (void *addr, size_t len, int flags)
{
  void (*f) (void) = meanwhile;

  meanwhile = NULL;
  if (f)
    f ();
  return (int) syscall (SYS_msync, addr, len, flags);
}

static void
begin (void)
{
  struct error e;

  segment_env_serve (&segment, SIZE, CS);
  points_init (&points);
  hot_init (&hot);
  CHECK (hot_attach (&hot, &segment, &points, true, true, &e) == 0);
  CHECK (hot.bits.nbits > 3);
}

static void
end (void)
{
  hot_destroy (&hot);
  points_destroy (&points);
  segment_close (&segment, true);
}

static void
change (uint64_t first, uint64_t last)
{
  hot_touch (&hot, first * hot.region, (last - first) * hot.region + 1);
}

/* Only what was left alone for all of a round gets cold. */
static void
test_rounds (void)
{
  begin ();
  change (1, 2);
  CHECK (!bitmap_test (&hot.bits, 0) && bitmap_test (&hot.bits, 1) &&
         bitmap_test (&hot.bits, 2) && !bitmap_test (&hot.bits, 3));
  CHECK_EQ (hot_begin_round (&hot), 0);
  hot_end_round (&hot);
  change (2, 2);
  CHECK_EQ (hot_begin_round (&hot), 1);
  CHECK (bitmap_test (&hot.bits, 1));
  hot_end_round (&hot);
  CHECK (!bitmap_test (&hot.bits, 1) && bitmap_test (&hot.bits, 2));
  CHECK_EQ (hot_begin_round (&hot), 1);
  change (2, 2);                /* while the source is flushed */
  hot_end_round (&hot);
  CHECK (bitmap_test (&hot.bits, 2));
  end ();
}

static void
end_of_round (void)
{
  hot_end_round (&hot);
}

/* A change of two regions waits for the bit of one, and the round in which the
 * other is a candidate ends: the other must stay hot.
 */
static void
test_round_ends_meanwhile (void)
{
  begin ();
  change (0, 0);
  hot_begin_round (&hot);
  hot_end_round (&hot);
  CHECK_EQ (hot_begin_round (&hot), 1);
  meanwhile = end_of_round;
  change (0, 1);
  CHECK (meanwhile == NULL);
  CHECK (bitmap_test (&hot.bits, 0) && bitmap_test (&hot.bits, 1));
  end ();
}

int
main (void)
{
  unit_start ();
  segment_env_start ();
  RUN (test_rounds);
  RUN (test_round_ends_meanwhile);
  segment_env_end ();
  return unit_end ();
}
