/* SPDX-License-Identifier: BSD-3-Clause */

/* Which clusters a client has read: compared with a map of bytes. */

#include <config.h>

#include "coverage.h"
#include "unit.h"
#include "utils/rounding.h"

#define CS 16
#define SIZE (40 * CS + 5)
#define CLUSTERS 41

static void
test_one_pass (void)
{
  struct coverage c;
  uint64_t pos, from, to;

  coverage_init (&c, SIZE, CS, 1);
  for (pos = 0; pos < SIZE; pos += 7) {
    CHECK (coverage_add (&c, pos, min_u64 (pos + 7, SIZE), &from, &to) == 0);
    CHECK_EQ (c.read.nr, 1);
    if (from < to)
      CHECK (from % CS == 0 && (to % CS == 0 || to == SIZE) &&
             to <= pos + 7);
  }
  CHECK_EQ (to, SIZE);
  coverage_destroy (&c);
}

/* What is reported is read, whole clusters, and each one in the end. */
static void
test_random (void)
{
  unsigned char seen[SIZE], told[CLUSTERS];
  struct coverage c;
  uint64_t seed = 3, start, end, from, to, i;
  unsigned n, round;

  for (round = 0; round < 200; ++round) {
    coverage_init (&c, SIZE, CS, 1);
    memset (seen, 0, sizeof seen);
    memset (told, 0, sizeof told);
    for (n = 0; n < 120; ++n) {
      start = unit_random (&seed) % SIZE;
      end = start + 1 + unit_random (&seed) % min_u64 (SIZE - start, 60);
      if (n == 119) {
        start = 0;
        end = SIZE;
      }
      memset (seen + start, 1, end - start);
      CHECK (coverage_add (&c, start, end, &from, &to) == 0);
      if (from < to) {
        CHECK (from % CS == 0 && (to % CS == 0 || to == SIZE) && to <= SIZE);
        for (i = from; i < to; ++i) {
          CHECK (seen[i]);
          told[i / CS] = 1;
        }
      }
      /* Every cluster all of which was read has been told. */
      for (i = 0; i < CLUSTERS; ++i)
        if (!told[i])
          CHECK (memchr (seen + i * CS, 0, min_u64 (CS, SIZE - i * CS)));
      for (i = 1; i < c.read.nr; ++i)
        CHECK (c.read.intervals[i - 1].end < c.read.intervals[i].start);
    }
    CHECK_EQ (c.read.nr, 1);
    coverage_destroy (&c);
  }
}

/* More gaps than there is room at first. */
static void
test_many_gaps (void)
{
  struct coverage c;
  uint64_t i, from, to;

  coverage_init (&c, UINT64_C (1) << 40, 4096, 1);
  for (i = 0; i < 1000; ++i) {
    CHECK (coverage_add (&c, (i * 7919 % 1000) * 100, (i * 7919 % 1000) * 100 + 50,
                         &from, &to) == 0);
    CHECK (from >= to);
    CHECK_EQ (c.read.nr, i + 1);
  }
  CHECK (coverage_add (&c, 0, 100000, &from, &to) == 0);
  CHECK_EQ (c.read.nr, 1);
  CHECK (from == 0 && to == 98304);
  coverage_destroy (&c);
}

/* Discards come in batches; what is left comes at the end, all of it once. */
static void
test_batches (void)
{
  unsigned char told[CLUSTERS] = { 0 };
  struct coverage c;
  uint64_t i, n, from, to;

  coverage_init (&c, SIZE, CS, 5 * CS);
  for (n = 0; n < CLUSTERS; ++n) {
    i = n * 7 % CLUSTERS;
    CHECK (coverage_add (&c, i * CS, min_u64 ((i + 1) * CS, SIZE), &from,
                         &to) == 0);
    CHECK (from >= to || to - from >= 5 * CS);
    for (; from < to; from += CS)
      told[from / CS]++;
  }
  while (coverage_rest (&c, &from, &to))
    for (; from < to; from += CS)
      told[from / CS]++;
  for (i = 0; i < CLUSTERS; ++i)
    CHECK_EQ (told[i], 1);
  coverage_destroy (&c);
}

/* Many small pieces are not kept for ever. */
static void
test_scattered (void)
{
  struct coverage c;
  uint64_t i, from, to, told = 0;

  coverage_init (&c, UINT64_C (1) << 40, 4096, UINT64_C (1) << 20);
  for (i = 0; i < 1000; ++i) {
    CHECK (coverage_add (&c, i * 16384, i * 16384 + 4096, &from, &to) == 0);
    told += to - from;
    CHECK (c.due.nr <= 64);
  }
  while (coverage_rest (&c, &from, &to))
    told += to - from;
  CHECK_EQ (told, 1000 * 4096);
  coverage_destroy (&c);
}

int
main (void)
{
  unit_start ();
  RUN (test_one_pass);
  RUN (test_random);
  RUN (test_many_gaps);
  RUN (test_batches);
  RUN (test_scattered);
  return unit_end ();
}
