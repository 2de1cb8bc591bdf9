/* SPDX-License-Identifier: BSD-3-Clause */

/* A raw file as target: sparse, a byte of the disk at its own offset. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "raw.h"
#include "rounding.h"

/* Is it as long as it was made?  If something truncated it, a hole is in
 * the place of what it held, which must not be taken for zeroes.
 */
static int
check_length (const struct raw_image *raw, struct error *e)
{
  struct stat st;

  if (fstat (raw->fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", raw->path);
  if ((uint64_t) st.st_size != raw->size)
    return error_set (e, ESTALE, "%s: the target is %" PRIu64 " bytes long, "
                      "not %" PRIu64 ": something resized it", raw->path,
                      (uint64_t) st.st_size, raw->size);
  return 0;
}

static int
raw_pread (struct image *image, void *buf, size_t count, uint64_t offset,
           struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  ssize_t r;

  while (count > 0) {
    r = pread (raw->fd, buf, count, (off_t) offset);
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return error_set_errno (e, errno,
                              "%s: cannot read %zu bytes at offset %" PRIu64,
                              raw->path, count, offset);
    if (r == 0)
      return error_set (e, EIO, "%s: ends before offset %" PRIu64
                        ": did something truncate it?", raw->path, offset);
    buf = (char *) buf + r;
    count -= (size_t) r;
    offset += (uint64_t) r;
  }
  /* Last: another's write may have made a truncated file longer again, but
   * not as long as it was, see raw_pwrite.
   */
  return check_length (raw, e);
}

static int
raw_pwrite (struct image *image, const void *buf, size_t count,
            uint64_t offset, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  ssize_t r;

  LOCK_FOR_SCOPE (&raw->write_lock);
  if (offset + count == raw->size && check_length (raw, e) == -1)
    return -1;                  /* it would seem whole again */
  while (count > 0) {
    r = pwrite (raw->fd, buf, count, (off_t) offset);
    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0)
      return error_set_errno (e, r == 0 ? EIO : errno,
                              "%s: cannot write %zu bytes at offset %" PRIu64,
                              raw->path, count, offset);
    buf = (const char *) buf + r;
    count -= (size_t) r;
    offset += (uint64_t) r;
  }
  return 0;
}

static int
raw_extent (struct image *image, uint64_t offset, uint64_t end,
            uint64_t *next, bool *data, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  off_t r;

  r = lseek (raw->fd, (off_t) offset, SEEK_DATA);
  if (r == -1 && errno != ENXIO)
    return error_set_errno (e, errno, "%s: cannot look for data at offset %"
                            PRIu64, raw->path, offset);
  if (r == -1 || (uint64_t) r > offset) {
    *data = false;
    *next = r == -1 ? end : min_u64 ((uint64_t) r, end);
    return 0;
  }

  r = lseek (raw->fd, (off_t) offset, SEEK_HOLE);
  if (r == -1)
    return error_set_errno (e, errno, "%s: cannot look for a hole at offset %"
                            PRIu64, raw->path, offset);
  *data = true;
  /* A hole punched between the two calls may leave r == offset. */
  *next = (uint64_t) r > offset ? min_u64 ((uint64_t) r, end) : end;
  return 0;
}

static int
raw_punch (struct image *image, uint64_t offset, uint64_t count,
           struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  if (fallocate (raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                 (off_t) offset, (off_t) count) == -1)
    return error_set_errno (e, errno, "%s: cannot punch a hole at offset %"
                            PRIu64, raw->path, offset);
  return 0;
}

static int
raw_check (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  struct stat there, here;

  if (stat (raw->path, &there) == -1)
    return error_set_errno (e, errno, "%s: the target is gone", raw->path);
  if (fstat (raw->fd, &here) == -1)
    return error_set_errno (e, errno, "%s: fstat", raw->path);
  if (there.st_dev != here.st_dev || there.st_ino != here.st_ino)
    return error_set (e, ESTALE, "%s: the target was replaced by another "
                      "file", raw->path);
  return check_length (raw, e);
}

/* The directory too: a new file is nothing without its name. */
static int
raw_flush (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  CLEANUP_FREE char *path = strdup (raw->path);
  CLEANUP_CLOSE int dir = -1;

  if (path)
    dir = open (dirname (path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fdatasync (raw->fd) == -1)
    return error_set_errno (e, errno, "%s: cannot flush to disk", raw->path);
  /* EINVAL: the file system cannot, or need not. */
  if (dir == -1 || (fsync (dir) == -1 && errno != EINVAL))
    return error_set_errno (e, errno, "%s: cannot flush its directory to disk",
                            raw->path);
  return 0;
}

void
raw_close (struct image *image)
{
  struct raw_image *raw = (struct raw_image *) image;

  close (raw->fd);
  pthread_mutex_destroy (&raw->write_lock);
  free (raw->path);
  free (raw);
}

const struct image_ops raw_ops = {
  .pread = raw_pread,
  .pwrite = raw_pwrite,
  .extent = raw_extent,
  .punch = raw_punch,
  .check = raw_check,
  .flush = raw_flush,
  .close = raw_close,
};
