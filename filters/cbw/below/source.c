/* SPDX-License-Identifier: BSD-3-Clause */

/* The layer below as an image: reading it, and asking for its extents. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

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
  if (next->can_flush (next) == -1)
    return -1;
  info->local = info->kept = false;
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

static int
source_pread (struct image *image, void *buf, size_t count, uint64_t offset,
              struct error *e)
{
  const struct source *s = (const struct source *) image;
  nbdkit_next *next = context (s, offset + count);
  SOURCE_LOCK_FOR_SCOPE (s);
  int err = 0;

  assert (count <= UINT32_MAX);
  if (next->pread (next, buf, (uint32_t) count, offset, 0, &err) == 0)
    return 0;
  return error_set_errno (e, err ? err : EIO,
                          "cannot read old data from the disk");
}

/* The extents of the range, freed with nbdkit_extents_free, or NULL with the
 * error set.  With "one", just the first.  They start at offset and may end
 * early, but there is at least one.  The last may reach up to "limit", if it
 * is as long as that.
 */
static struct nbdkit_extents *
ask_extents (const struct source *s, uint64_t offset, uint64_t end,
             uint64_t limit, bool one, struct error *e)
{
  const uint32_t count = (uint32_t) min_u64 (end - offset, EXTENTS_COUNT_MAX);
  struct nbdkit_extents *extents;
  nbdkit_next *next;
  int r, err = EIO;

  extents = nbdkit_extents_new (offset, max_u64 (offset + count, limit));
  if (extents == NULL) {
    error_set_errno (e, ENOMEM, "extents of the disk");
    return NULL;
  }
  next = context (s, offset + count);
  {
    SOURCE_LOCK_FOR_SCOPE (s);
    r = next->extents (next, count, offset, one ? NBDKIT_FLAG_REQ_ONE : 0,
                       extents, &err);
  }
  if (r == 0 && nbdkit_extents_count (extents) > 0)
    return extents;
  nbdkit_extents_free (extents);
  error_set_errno (e, err, "cannot ask for the disk's extents at offset %"
                   PRIu64, offset);
  return NULL;
}

static int
source_extent (struct image *image, uint64_t offset, uint64_t end,
               uint64_t *next, bool *data, struct error *e)
{
  const struct source *s = (const struct source *) image;
  struct nbdkit_extents *extents = ask_extents (s, offset, end, 0, true, e);
  struct nbdkit_extent first;

  if (extents == NULL)
    return -1;
  first = nbdkit_get_extent (extents, 0);
  nbdkit_extents_free (extents);
  *data = !(first.type & NBDKIT_EXTENT_ZERO);
  *next = offset + min_u64 (first.length, end - offset);
  return 0;
}

static_assert (IMAGE_HOLE == NBDKIT_EXTENT_HOLE &&
               IMAGE_ZERO == NBDKIT_EXTENT_ZERO, "types of extents");

static int
source_extents (struct image *image, uint64_t offset, uint64_t end,
                uint64_t limit, struct image_extent *x, size_t max,
                size_t *nr, struct error *e)
{
  const struct source *s = (const struct source *) image;
  struct nbdkit_extents *extents = ask_extents (s, offset, end, limit, false,
                                                e);
  struct nbdkit_extent extent;
  size_t i;

  if (extents == NULL)
    return -1;
  *nr = min_u64 (max, nbdkit_extents_count (extents));
  for (i = 0; i < *nr; ++i) {
    extent = nbdkit_get_extent (extents, i);
    x[i] = (struct image_extent) {
      .offset = extent.offset, .length = extent.length, .type = extent.type
    };
  }
  nbdkit_extents_free (extents);
  return 0;
}

bool
source_may_flush (const struct source *s)
{
  return s->disk == NULL || !s->disk->flush_writes;
}

int
source_flush (const struct source *s, void **through, struct error *e)
{
  nbdkit_next *next = context (s, 0);
  SOURCE_LOCK_FOR_SCOPE (s);
  int err = 0;

  *through = next;
  if (!source_may_flush (s))
    return error_set (e, EOPNOTSUPP, "the disk cannot be flushed: what "
                      "nbdkit-cache-filter keeps is guests' to flush");
  if (next->can_flush (next) != 1)
    return error_set (e, EOPNOTSUPP, "the disk cannot be flushed: its plugin "
                      "has no flush");
  if (next->flush (next, 0, &err) == 0)
    return 0;
  return error_set_errno (e, err ? err : EIO, "the disk cannot be flushed");
}

static int
flush_image (struct image *image, struct error *e)
{
  void *through;

  if (source_flush ((const struct source *) image, &through, e) == 0 ||
      e->num == EOPNOTSUPP)
    return 0;
  return -1;
}

static const struct image_ops source_ops = {
  .flush = flush_image,
  .pread = source_pread,
  .extent = source_extent,
  .extents = source_extents,
};

struct source
source_of_context (nbdkit_next *next, uint64_t size, struct disk *disk,
                   pthread_mutex_t *serial)
{
  return (struct source) {
    .image.ops = &source_ops, .disk = disk, .next = next, .size = size,
    .serial = serial,
  };
}

struct source
source_of_disk (struct disk *disk)
{
  return source_of_context (NULL, 0, disk, disk->serial);
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
