/* SPDX-License-Identifier: BSD-3-Clause */

/* Rounding of 64-bit offsets.  "align" is a power of two; the caller
 * makes sure that rounding up does not overflow (disk sizes are below
 * 2^63, alignments at most 4 MiB).
 */

#ifndef CBW_ROUNDING_H
#define CBW_ROUNDING_H

#include <stdbool.h>
#include <stdint.h>

static inline bool
is_power_of_2 (uint64_t v)
{
  return v != 0 && (v & (v - 1)) == 0;
}

static inline uint64_t
round_down (uint64_t v, uint64_t align)
{
  return v & ~(align - 1);
}

static inline uint64_t
round_up (uint64_t v, uint64_t align)
{
  return round_down (v + align - 1, align);
}

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static inline uint64_t
max_u64 (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

#endif /* CBW_ROUNDING_H */
