/* SPDX-License-Identifier: BSD-3-Clause */

/* A file that another process writes, as an image that is only read: the
 * protected disk, or a target, in a plugin that reads a snapshot by itself.
 * docs/correctness.md, section 23, says why that is right, and where.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "image/raw/raw.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* A read of less takes about as long as the system call. */
#define SKIP 8192

struct reader {
  struct raw_image raw;

  /* Of the source: the last extent that was asked for.  Held for moments. */
  pthread_mutex_t lock;
  uint64_t from, to;
  bool data;
};

static bool
kept_extent (struct reader *reader, uint64_t offset, uint64_t *next,
             bool *data)
{
  LOCK_FOR_SCOPE (&reader->lock);
  if (offset < reader->from || offset >= reader->to)
    return false;
  *next = reader->to;
  *data = reader->data;
  return true;
}

static void
keep_extent (struct reader *reader, uint64_t from, uint64_t to, bool data)
{
  LOCK_FOR_SCOPE (&reader->lock);
  reader->from = from;
  reader->to = to;
  reader->data = data;
}

static int
source_extent (struct image *image, uint64_t offset, uint64_t end,
               uint64_t *next, bool *data, struct error *e)
{
  struct reader *reader = (struct reader *) image;

  if (!kept_extent (reader, offset, next, data)) {
    if (raw_seek (&reader->raw, offset, next, data, e) == -1)
      return -1;
    keep_extent (reader, offset, *next, *data);
  }
  *next = min_u64 (*next, end);
  return 0;
}

static void
reader_close (struct image *image)
{
  pthread_mutex_destroy (&((struct reader *) image)->lock);
  raw_close (image);
}

static const struct image_ops ops[] = {
  [IMAGE_READER_SOURCE] = {
    .pread = raw_pread,
    .extent = source_extent,
    .close = reader_close,
  },
  [IMAGE_READER_TARGET] = {
    .pread = raw_pread,
    .extent = raw_extent,
    .verify = raw_verify,
    .close = reader_close,
  },
};

struct image *
image_reader_open (int *fd, const char *path, uint64_t size,
                   enum image_reader_kind kind, struct error *e)
{
  struct reader *reader;
  struct stat st;

  if (fstat (*fd, &st) == -1) {
    error_set_errno (e, errno, "%s: fstat", path);
    return NULL;
  }
  if (!S_ISBLK (st.st_mode) && !(S_ISREG (st.st_mode) && raw_is_coherent (*fd))) {
    error_set (e, ENOTSUP, "%s: is not a file on tmpfs, ext4, xfs or btrfs, "
               "nor a block device", path);
    return NULL;
  }
  reader = calloc (1, sizeof *reader);
  if (reader == NULL || raw_image_init (&reader->raw, path, size) == -1) {
    free (reader);
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  reader->raw.image.ops = &ops[kind];
  reader->raw.image.skip = SKIP;
  pthread_mutex_init (&reader->lock, NULL);
  reader->raw.fd = *fd;
  *fd = -1;
  return &reader->raw.image;
}
