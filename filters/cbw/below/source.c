/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include "below/source.h"
#include "segment/layout.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* Most that one extents call asks about: well below 32 bits. */
#define EXTENTS_COUNT_MAX (UINT32_C (1) << 31)

int
source_describe (nbdkit_next *next, struct source_info *info)
{
  int64_t size;
  int r;

  size = next->get_size (next);
  if (size == -1)
    return -1;
  if (size > CBW_DISK_SIZE_MAX) {
    nbdkit_error ("cbw: the disk is too large");
    return -1;
  }
  info->size = (uint64_t) size;
  if (next->block_size (next, &info->minimum_block, &info->preferred_block,
                        &info->maximum_block) == -1)
    return -1;
  r = next->can_extents (next);
  if (r == -1)
    return -1;
  info->can_extents = r;
  r = next->can_cache (next);
  if (r == -1)
    return -1;
  info->can_cache = r != NBDKIT_CACHE_NONE;
  info->local = false;
  return 0;
}

/* The context for a call that ends at "end", for this call only: the disk may
 * have another for the next one.
 */
static nbdkit_next *
context (const struct source *s, uint64_t end)
{
  return s->next && (s->disk == NULL || end <= s->size) ? s->next :
    disk_next (s->disk);
}

int
source_pread (const struct source *s, void *buf, uint32_t count,
              uint64_t offset)
{
  nbdkit_next *next = context (s, offset + count);
  SOURCE_LOCK_FOR_SCOPE (s);
  int err = 0;

  if (next->pread (next, buf, count, offset, 0, &err) == -1)
    return err ? err : EIO;
  return 0;
}

int
source_cache (const struct source *s, uint32_t count, uint64_t offset)
{
  nbdkit_next *next = context (s, offset + count);
  SOURCE_LOCK_FOR_SCOPE (s);
  int err = 0;

  if (next->can_cache (next) <= NBDKIT_CACHE_NONE)
    return 0;                   /* another context could */
  if (next->cache (next, count, offset, 0, &err) == -1)
    return err ? err : EIO;
  return 0;
}

struct nbdkit_extents *
source_extents (const struct source *s, uint32_t count, uint64_t offset,
                uint64_t limit, bool one, int *err)
{
  struct nbdkit_extents *extents;
  nbdkit_next *next;
  int r;

  *err = EIO;
  count = (uint32_t) min_u64 (count, EXTENTS_COUNT_MAX);
  extents = nbdkit_extents_new (offset, max_u64 (offset + count, limit));
  if (extents == NULL) {
    *err = ENOMEM;
    return NULL;
  }
  next = context (s, offset + count);
  {
    SOURCE_LOCK_FOR_SCOPE (s);
    r = next->extents (next, count, offset, one ? NBDKIT_FLAG_REQ_ONE : 0,
                       extents, err);
  }
  if (r == -1 || nbdkit_extents_count (extents) == 0) {
    nbdkit_extents_free (extents);
    return NULL;
  }
  return extents;
}

uint64_t
source_extent (const struct source *s, uint64_t count, uint64_t offset,
               bool *zero)
{
  struct nbdkit_extents *extents;
  struct nbdkit_extent first;
  int err;

  extents = source_extents (s, (uint32_t) min_u64 (count, EXTENTS_COUNT_MAX),
                            offset, 0, true, &err);
  if (extents == NULL)
    return 0;
  first = nbdkit_get_extent (extents, 0);
  nbdkit_extents_free (extents);
  *zero = first.type & NBDKIT_EXTENT_ZERO;
  return min_u64 (first.length, count);
}

uint64_t
source_zeroes (const struct source *s, uint64_t count, uint64_t offset)
{
  bool zero;
  const uint64_t len = source_extent (s, count, offset, &zero);

  return len > 0 && zero ? len : 0;
}
