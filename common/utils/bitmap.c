/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "utils/bitmap.h"

/* The bits of word w that lie in [start, end). */
static inline uint64_t
word_mask (uint64_t w, uint64_t start, uint64_t end)
{
  uint64_t mask = UINT64_MAX;

  if (start > w * 64)
    mask &= UINT64_MAX << (start - w * 64);
  if (end < w * 64 + 64)
    mask &= UINT64_MAX >> (w * 64 + 64 - end);
  return mask;
}

static inline uint64_t
word_load (const struct bitmap *b, uint64_t w)
{
  return atomic_load_explicit (&b->words[w], memory_order_acquire);
}

uint64_t
bitmap_set (const struct bitmap *b, uint64_t start, uint64_t end)
{
  uint64_t w, mask, old, count = 0;

  for (w = start / 64; w * 64 < end; ++w) {
    mask = word_mask (w, start, end);
    if ((word_load (b, w) & mask) != mask) {
      old = atomic_fetch_or_explicit (&b->words[w], mask,
                                      memory_order_release);
      count += (uint64_t) __builtin_popcountll (mask & ~old);
    }
  }
  return count;
}

void
bitmap_clear (const struct bitmap *b, uint64_t start, uint64_t end)
{
  uint64_t w;

  for (w = start / 64; w * 64 < end; ++w)
    atomic_fetch_and_explicit (&b->words[w], ~word_mask (w, start, end),
                               memory_order_release);
}

/* The first bit in the range which differs from those of "flip". */
static uint64_t
next_bit (const struct bitmap *b, uint64_t start, uint64_t end, uint64_t flip)
{
  uint64_t w, bits;

  for (w = start / 64; w * 64 < end; ++w) {
    bits = (word_load (b, w) ^ flip) & word_mask (w, start, end);
    if (bits)
      return w * 64 + (uint64_t) __builtin_ctzll (bits);
  }
  return end;
}

uint64_t
bitmap_next_set (const struct bitmap *b, uint64_t start, uint64_t end)
{
  return start < end ? next_bit (b, start, end, 0) : end;
}

uint64_t
bitmap_next_clear (const struct bitmap *b, uint64_t start, uint64_t end)
{
  return start < end ? next_bit (b, start, end, UINT64_MAX) : end;
}

uint64_t
bitmap_count (const struct bitmap *b, uint64_t start, uint64_t end)
{
  uint64_t w, count = 0;

  for (w = start / 64; w * 64 < end; ++w)
    count += (uint64_t) __builtin_popcountll (word_load (b, w) &
                                              word_mask (w, start, end));
  return count;
}
