/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "snapshot/generation.h"
#include "unit.h"

static _Atomic (uint64_t) shared;

/* Odd inside, even outside, and a bump does not change which. */
static void
test_parity (void)
{
  struct generation g;

  generation_init (&g);
  atomic_store (&shared, 0);
  generation_attach (&g, &shared);
  CHECK_EQ (shared, 0);
  generation_begin (&g);
  CHECK_EQ (shared, 1);
  CHECK_EQ (generation_value (&g), 1);
  generation_bump (&g);
  CHECK_EQ (shared, 3);
  generation_end (&g);
  CHECK_EQ (shared, 4);
  generation_bump (&g);
  CHECK_EQ (shared, 6);
  generation_destroy (&g);
}

/* It continues from what was left, odd or not, and not from what others write
 * there later.
 */
static void
test_attach (void)
{
  static const uint64_t left[] = { 8, 9, UINT64_MAX };
  struct generation g;
  size_t i;

  for (i = 0; i < sizeof left / sizeof left[0]; ++i) {
    generation_init (&g);
    atomic_store (&shared, left[i]);
    generation_attach (&g, &shared);
    CHECK_EQ (shared, left[i]);
    atomic_store (&shared, 5);
    CHECK_EQ (generation_value (&g), left[i] + left[i] % 2);
    generation_bump (&g);
    CHECK_EQ (shared, left[i] + left[i] % 2 + 2);
    generation_destroy (&g);
  }
}

/* Without a segment it counts all the same. */
static void
test_alone (void)
{
  struct generation g;

  generation_init (&g);
  generation_begin (&g);
  generation_end (&g);
  CHECK_EQ (g.value, 2);
  generation_destroy (&g);
}

int
main (void)
{
  unit_start ();
  RUN (test_parity);
  RUN (test_attach);
  RUN (test_alone);
  return unit_end ();
}
