/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "unit.h"
#include "utils/rounding.h"

static void
test_power_of_2 (void)
{
  CHECK (!is_power_of_2 (0));
  CHECK (is_power_of_2 (1));
  CHECK (is_power_of_2 (UINT64_C (1) << 63));
  CHECK (!is_power_of_2 (3));
  CHECK (!is_power_of_2 (UINT64_MAX));
}

static void
test_rounding (void)
{
  CHECK_EQ (round_down (0, 4096), 0);
  CHECK_EQ (round_down (4095, 4096), 0);
  CHECK_EQ (round_down (4096, 4096), 4096);
  CHECK_EQ (round_up (0, 4096), 0);
  CHECK_EQ (round_up (1, 4096), 4096);
  CHECK_EQ (round_up (4096, 4096), 4096);
  CHECK_EQ (round_up (7, 1), 7);
  /* The largest disk, in the largest clusters: no overflow. */
  CHECK_EQ (round_up (INT64_MAX - (4 << 20), 4 << 20),
            (UINT64_C (1) << 63) - (4 << 20));
}

static void
test_min_max (void)
{
  CHECK_EQ (min_u64 (1, UINT64_MAX), 1);
  CHECK_EQ (max_u64 (1, UINT64_MAX), UINT64_MAX);
}

int
main (void)
{
  unit_start ();
  RUN (test_power_of_2);
  RUN (test_rounding);
  RUN (test_min_max);
  return unit_end ();
}
