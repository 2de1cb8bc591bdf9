/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <pthread.h>

#include "unit.h"
#include "utils/bitmap.h"

#define NBITS 300               /* not a multiple of 64 */

static _Atomic (uint64_t) words[(NBITS + 63) / 64 + 1];
static const struct bitmap bitmap = { words, NBITS };

static void
reset (void)
{
  memset ((void *) words, 0, sizeof words);
}

static void
test_bytes (void)
{
  CHECK_EQ (bitmap_bytes (0), 0);
  CHECK_EQ (bitmap_bytes (1), 8);
  CHECK_EQ (bitmap_bytes (64), 8);
  CHECK_EQ (bitmap_bytes (65), 16);
}

/* Every range at every place against a plain array. */
static void
check_against (const bool *model, uint64_t start, uint64_t end)
{
  uint64_t i, set = end, clear = end, count = 0;

  for (i = end; i-- > start; ) {
    if (model[i])
      set = i, count++;
    else
      clear = i;
  }
  CHECK_EQ (bitmap_next_set (&bitmap, start, end), set);
  CHECK_EQ (bitmap_next_clear (&bitmap, start, end), clear);
  CHECK_EQ (bitmap_count (&bitmap, start, end), count);
  CHECK_EQ (bitmap_all_set (&bitmap, start, end), count == end - start);
}

static void
test_model (void)
{
  bool model[NBITS] = { false };
  uint64_t seed = 1, start, end, i, n;

  reset ();
  for (n = 0; n < 4000; ++n) {
    start = unit_random (&seed) % (NBITS + 1);
    end = start + unit_random (&seed) % (NBITS + 1 - start);
    if (n % 3 == 0) {
      bitmap_set (&bitmap, start, end);
      memset (model + start, true, end - start);
    }
    else if (n % 3 == 1) {
      bitmap_clear (&bitmap, start, end);
      memset (model + start, false, end - start);
    }
    else
      check_against (model, start, end);
    for (i = 0; i < NBITS; ++i)
      CHECK_EQ (bitmap_test (&bitmap, i), model[i]);
  }
  CHECK_EQ (words[(NBITS + 63) / 64], 0); /* nothing past the end */
}

static void
test_empty_ranges (void)
{
  reset ();
  CHECK_EQ (bitmap_next_set (&bitmap, 10, 10), 10);
  CHECK_EQ (bitmap_next_clear (&bitmap, 10, 10), 10);
  CHECK (bitmap_all_set (&bitmap, 64, 64));
  CHECK_EQ (bitmap_count (&bitmap, 64, 64), 0);
  bitmap_set (&bitmap, 64, 64);
  CHECK_EQ (bitmap_next_set (&bitmap, 0, NBITS), NBITS);
}

/* Threads that set neighbouring bits of one word lose none. */
static void *
set_every_eighth (void *opaque)
{
  uint64_t i = *(uint64_t *) opaque;

  for (; i < NBITS; i += 8)
    bitmap_set (&bitmap, i, i + 1);
  return NULL;
}

static void
test_concurrent_set (void)
{
  pthread_t threads[8];
  uint64_t first[8], i, round;

  for (round = 0; round < 50; ++round) {
    reset ();
    for (i = 0; i < 8; ++i) {
      first[i] = i;
      pthread_create (&threads[i], NULL, set_every_eighth, &first[i]);
    }
    for (i = 0; i < 8; ++i)
      pthread_join (threads[i], NULL);
    CHECK (bitmap_all_set (&bitmap, 0, NBITS));
  }
}

int
main (void)
{
  unit_start ();
  RUN (test_bytes);
  RUN (test_model);
  RUN (test_empty_ranges);
  RUN (test_concurrent_set);
  return unit_end ();
}
