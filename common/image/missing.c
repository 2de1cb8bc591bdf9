/* SPDX-License-Identifier: BSD-3-Clause */

/* An image that is not there.  It stands in the place of a target that a
 * server could not open again, so that nobody else asks if there is one.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"

struct missing {
  struct image image;           /* first */
  char message[];
};

static int
fail (struct image *image, struct error *e)
{
  return error_set (e, EIO, "%s", ((struct missing *) image)->message);
}

static int
missing_pread (struct image *image, void *buf, size_t count, uint64_t offset,
               struct error *e)
{
  (void) buf; (void) count; (void) offset;
  return fail (image, e);
}

static int
missing_extent (struct image *image, uint64_t offset, uint64_t end,
                uint64_t *next, bool *data, struct error *e)
{
  (void) offset; (void) end; (void) next; (void) data;
  return fail (image, e);
}

static int
missing_pwrite (struct image *image, const void *buf, size_t count,
                uint64_t offset, struct error *e)
{
  (void) buf; (void) count; (void) offset;
  return fail (image, e);
}

/* To zero or to punch a range. */
static int
missing_range (struct image *image, uint64_t offset, uint64_t count,
               struct error *e)
{
  (void) offset; (void) count;
  return fail (image, e);
}

static int
missing_check (struct image *image, struct error *e)
{
  (void) image; (void) e;
  return 0;
}

static void
missing_close (struct image *image)
{
  free (image);
}

static const struct image_ops missing_ops = {
  .pread = missing_pread,
  .extent = missing_extent,
  .pwrite = missing_pwrite,
  .zero = missing_range,
  .punch = missing_range,
  .check = missing_check,
  .flush = fail,
  .close = missing_close,
};

struct image *
image_missing_new (const char *message)
{
  const size_t len = strlen (message) + 1;
  struct missing *missing = calloc (1, sizeof *missing + len);

  if (missing == NULL)
    return NULL;
  missing->image.ops = &missing_ops;
  memcpy (missing->message, message, len);
  return &missing->image;
}

bool
image_is_missing (const struct image *image)
{
  return image->ops == &missing_ops;
}
