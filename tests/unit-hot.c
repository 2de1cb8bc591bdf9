/* SPDX-License-Identifier: BSD-3-Clause */

/* The temperatures of regions, and what happens to them while a guest waits for
 * the segment's disk.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "points/hot.h"
#include "segment-env.h"
#include "segment/segment-server.h"
#include "unit.h"

#define CS 4096
#define SIZE (UINT64_C (1) << 30)

static struct segment segment;
static struct points points;
static struct hot hot;

/* What happens in the middle of a write to the segment's disk, once. */
static void (*meanwhile) (void);
static unsigned writes;
static int fail;                /* errno */

/* In place of the library's. */
int
msync (void *addr, size_t len, int flags)
{
  void (*f) (void) = meanwhile;

  meanwhile = NULL;
  writes++;
  if (f)
    f ();
  errno = fail;
  return fail ? -1 : (int) syscall (SYS_msync, addr, len, flags);
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

/* ---- The segment's disk fails for a while ---- */

static volatile sig_atomic_t stored; /* to a page that was not to be */

static void
on_fault (int sig, siginfo_t *info, void *context)
{
  const uintptr_t at = (uintptr_t) info->si_addr / CBW_PAGE * CBW_PAGE;

  (void) sig;
  (void) context;
  stored = 1;
  mprotect ((void *) at, CBW_PAGE, PROT_READ | PROT_WRITE);
}

/* As the kernel does with a page that it takes for written. */
static void
make_clean (uint64_t offset)
{
  CHECK (mprotect (segment.map.base + offset, CBW_PAGE, PROT_READ) == 0);
  stored = 0;
}

static void
test_disk_fails (void)
{
  struct sigaction catch = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
  struct sigaction old;

  begin ();
  change (1, 1);
  fail = EIO;
  change (2, 2);
  fail = 0;
  CHECK (sigaction (SIGSEGV, &catch, &old) == 0);
  /* It is tried again for the next region, and the bit that was not written is
   * written, too.
   */
  writes = 0;
  change (3, 3);
  CHECK_EQ (writes, 1);
  fail = EIO;
  CHECK_EQ (segment_sync_hot (&segment), EIO);
  fail = 0;
  make_clean (segment.map.hot);
  CHECK_EQ (segment_sync_hot (&segment), 0);
  CHECK (stored);
  make_clean (segment.map.hot);
  CHECK_EQ (segment_sync_hot (&segment), 0);
  CHECK (!stored);
  CHECK (mprotect (segment.map.base + segment.map.hot, CBW_PAGE,
                   PROT_READ | PROT_WRITE) == 0);
  CHECK (sigaction (SIGSEGV, &old, NULL) == 0);
  end ();
}

int
main (void)
{
  unit_start ();
  segment_env_start ();
  RUN (test_rounds);
  RUN (test_round_ends_meanwhile);
  RUN (test_disk_fails);
  segment_env_end ();
  return unit_end ();
}
