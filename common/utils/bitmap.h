/* SPDX-License-Identifier: BSD-3-Clause */

/* Bitmaps of clusters, one bit a cluster, in memory that somebody else
 * owns (a shared mapping).  Safe for any number of threads: setting is
 * an atomic "or", so bits are never lost.
 *
 * Memory order: bits are set with release and read with acquire.  Who
 * sees a bit set also sees everything that the setter did before.  The
 * engine adds fences where it needs more (docs/correctness.md).
 *
 * Ranges are [start, end) in bits, and must lie within nbits: this is
 * the caller's duty, checked once at the edge where requests come in.
 */

#ifndef CBW_BITMAP_H
#define CBW_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bitmap {
  _Atomic (uint64_t) *words;
  uint64_t nbits;
};

/* Bytes that a bitmap of nbits takes: whole 64-bit words. */
static inline uint64_t
bitmap_bytes (uint64_t nbits)
{
  return (nbits + 63) / 64 * 8;
}

static inline bool
bitmap_test (const struct bitmap *b, uint64_t i)
{
  return atomic_load_explicit (&b->words[i / 64], memory_order_acquire) >>
    (i % 64) & 1;
}

/* Set every bit of the range.  Words that are full already are not
 * written, so that a cache line all threads read stays shared.
 * Returns how many bits were clear before.
 */
extern uint64_t bitmap_set (const struct bitmap *b,
                            uint64_t start, uint64_t end);

/* Clear every bit of the range. */
extern void bitmap_clear (const struct bitmap *b,
                          uint64_t start, uint64_t end);

/* The first bit of the range which is set (clear), or end if none. */
extern uint64_t bitmap_next_set (const struct bitmap *b,
                                 uint64_t start, uint64_t end);
extern uint64_t bitmap_next_clear (const struct bitmap *b,
                                   uint64_t start, uint64_t end);

/* Is every bit of the range set?  True for an empty range. */
static inline bool
bitmap_all_set (const struct bitmap *b, uint64_t start, uint64_t end)
{
  return bitmap_next_clear (b, start, end) == end;
}

/* How many bits of the range are set. */
extern uint64_t bitmap_count (const struct bitmap *b,
                              uint64_t start, uint64_t end);

#endif /* CBW_BITMAP_H */
