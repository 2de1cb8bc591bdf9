/* SPDX-License-Identifier: BSD-3-Clause */

/* What is the same for all kinds of images. */

#include <config.h>

#include "image/image.h"

/* One by one. */
static int
extents_of_each (struct image *image, uint64_t offset, uint64_t end,
                 struct image_extent *x, size_t max, size_t *nr,
                 struct error *e)
{
  uint64_t next;
  bool data;

  for (*nr = 0; offset < end && *nr < max; offset = next) {
    if (image->ops->extent (image, offset, end, &next, &data, e) == -1)
      return -1;
    x[(*nr)++] = (struct image_extent) {
      .offset = offset, .length = next - offset,
      .type = data ? 0 : IMAGE_HOLE | IMAGE_ZERO
    };
  }
  return 0;
}

int
image_extents (struct image *image, uint64_t offset, uint64_t end,
               uint64_t limit, struct image_extent *x, size_t max, size_t *nr,
               struct error *e)
{
  return image->ops->extents ?
    image->ops->extents (image, offset, end, limit, x, max, nr, e) :
    extents_of_each (image, offset, end, x, max, nr, e);
}
