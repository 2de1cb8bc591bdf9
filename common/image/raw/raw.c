/* SPDX-License-Identifier: BSD-3-Clause */

/* A raw file as target: sparse, a byte of the disk at its own offset.
 *
 * What was written is in the page cache, and reads are right, until the
 * kernel writes it back.  If that fails it drops the pages: the file then
 * reads as something else, and says so once to each open file.  So whoever
 * reads asks after that, and the first error loses the image for good.  See
 * docs/correctness.md, "Write-back errors".
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/raw/raw.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* How far behind the end of the file it is asked about: far enough that
 * there is no page in the cache, for which the kernel would wait.
 */
#define BEHIND_END (UINT64_C (1) << 30)

/* How much is punched in one go, and how long the pause is after that if a
 * guest's write waits for it.  Measured on ext4, with 600 MiB of scattered
 * data: in one go a write waits 430 ms, in pieces 40 ms, with pauses 5 ms.
 */
#define PUNCH_SIZE (UINT64_C (1) << 20)
#define PUNCH_PAUSE 50000       /* ns */

static int
report_loss (struct raw_image *raw, struct error *e)
{
  *e = raw->loss;
  return -1;
}

/* Has it been lost?  A look, for those who do not read. */
static int
check_not_lost (struct raw_image *raw, struct error *e)
{
  return atomic_load (&raw->lost) ? report_loss (raw, e) : 0;
}

/* loss_lock is held.  The first error is kept. */
static void
note_loss (struct raw_image *raw, int num)
{
  if (atomic_load (&raw->lost))
    return;
  error_set_errno (&raw->loss, num, "%s: what was written to the target "
                   "could not be written to disk, and is lost",
                   raw_path (raw));
  atomic_store (&raw->lost, true);
}

/* The wait is for pages behind the end, of which there are none.  What the
 * call is made for is that it then returns the write-back error of the
 * whole file, if this open file has not been told of it yet.
 */
int
raw_look_for_loss (struct raw_image *raw, struct error *e)
{
  LOCK_FOR_SCOPE (&raw->loss_lock);
  if (!atomic_load (&raw->lost) &&
      sync_file_range (raw->fd, (off_t) (raw->size + BEHIND_END), 1,
                       SYNC_FILE_RANGE_WAIT_BEFORE) == -1 &&
      errno != ENOSYS)
    note_loss (raw, errno);
  return check_not_lost (raw, e);
}

/* Is it as long as it was made?  If something truncated it, a hole is in
 * the place of what it held, which must not be taken for zeroes.
 */
static int
check_length (const struct raw_image *raw, struct error *e)
{
  struct stat st;

  if (fstat (raw->fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", raw_path (raw));
  if ((uint64_t) st.st_size != raw->size)
    return error_set (e, ESTALE, "%s: the target is %" PRIu64 " bytes long, "
                      "not %" PRIu64 ": something resized it", raw_path (raw),
                      (uint64_t) st.st_size, raw->size);
  return 0;
}

int
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
                              raw_path (raw), count, offset);
    if (r == 0)
      return error_set (e, EIO, "%s: ends before offset %" PRIu64
                        ": did something truncate it?", raw_path (raw), offset);
    buf = (char *) buf + r;
    count -= (size_t) r;
    offset += (uint64_t) r;
  }
  return 0;
}

/* R4': another's write may have made a truncated file longer again, but not
 * as long as it was, see N1.  And a page that was dropped unwritten
 * is read as it is on disk.
 */
int
raw_verify (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  return check_length (raw, e) == -1 ? -1 : raw_look_for_loss (raw, e);
}

static int
write_all (struct raw_image *raw, const void *buf, size_t count,
           uint64_t offset, struct error *e)
{
  ssize_t r;

  if (offset + count == raw->size && check_length (raw, e) == -1)
    return -1;                  /* N1: it would seem whole again */
  while (count > 0) {
    r = pwrite (raw->fd, buf, count, (off_t) offset);               /* N2 */
    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0)
      return error_set_errno (e, r == 0 ? EIO : errno,
                              "%s: cannot write %zu bytes at offset %" PRIu64,
                              raw_path (raw), count, offset);
    buf = (const char *) buf + r;
    count -= (size_t) r;
    offset += (uint64_t) r;
  }
  return 0;
}

static int
raw_pwrite (struct image *image, const void *buf, size_t count,
            uint64_t offset, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  int r;

  if (check_not_lost (raw, e) == -1)
    return -1;
  atomic_fetch_add (&raw->writers, 1);
  r = write_all (raw, buf, count, offset, e);
  atomic_fetch_sub (&raw->writers, 1);
  return r;
}

int
raw_seek (const struct raw_image *raw, uint64_t offset, uint64_t *next,
          bool *data, struct error *e)
{
  off_t r;

  r = lseek (raw->fd, (off_t) offset, SEEK_DATA);
  if (r == -1 && errno != ENXIO)
    return error_set_errno (e, errno, "%s: cannot look for data at offset %"
                            PRIu64, raw_path (raw), offset);
  if (r == -1 || (uint64_t) r > offset) {
    *data = false;
    *next = r == -1 ? UINT64_MAX : (uint64_t) r;
    return 0;
  }

  r = lseek (raw->fd, (off_t) offset, SEEK_HOLE);
  if (r == -1)
    return error_set_errno (e, errno, "%s: cannot look for a hole at offset %"
                            PRIu64, raw_path (raw), offset);
  *data = true;
  /* A hole punched between the two calls may leave r == offset. */
  *next = (uint64_t) r > offset ? (uint64_t) r : UINT64_MAX;
  return 0;
}

int
raw_extent (struct image *image, uint64_t offset, uint64_t end,
            uint64_t *next, bool *data, struct error *e)
{
  if (raw_seek ((struct raw_image *) image, offset, next, data, e) == -1)
    return -1;
  *next = min_u64 (*next, end);
  return 0;
}

/* The kernel has just let go of the file's lock, and a thread that waits for
 * it may not be awake yet: to take it again at once would rob that thread.
 */
static void
let_writers_in (const struct raw_image *raw)
{
  const struct timespec pause = { .tv_nsec = PUNCH_PAUSE };

  if (atomic_load (&raw->writers) > 0)
    nanosleep (&pause, NULL);
}

/* In pieces, as the kernel holds the file's lock meanwhile.  Holes are left
 * out: there may be many more pieces than data.
 */
static int
raw_punch (struct image *image, uint64_t offset, uint64_t count,
           struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;
  const uint64_t end = offset + count;
  off_t data;

  for (; offset < end; offset += count) {
    data = lseek (raw->fd, (off_t) offset, SEEK_DATA);
    if ((data == -1 && errno == ENXIO) ||
        (data != -1 && (uint64_t) data >= end))
      break;
    if (data != -1)
      offset = (uint64_t) data;
    count = min_u64 (end - offset, PUNCH_SIZE - offset % PUNCH_SIZE);
    if (fallocate (raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   (off_t) offset, (off_t) count) == -1)
      return error_set_errno (e, errno, "%s: cannot punch a hole at offset %"
                              PRIu64, raw_path (raw), offset);
    let_writers_in (raw);
  }
  return 0;
}

/* Where the file system cannot punch, write. */
static int
write_zeroes (struct raw_image *raw, uint64_t offset, uint64_t count,
              struct error *e)
{
  CLEANUP_FREE char *zeroes = calloc (1, PUNCH_SIZE);
  uint64_t n;

  if (zeroes == NULL)
    return error_set_errno (e, ENOMEM, "%s", raw_path (raw));
  for (; count > 0; count -= n, offset += n) {
    n = min_u64 (count, PUNCH_SIZE);
    if (raw_pwrite (&raw->image, zeroes, n, offset, e) == -1)
      return -1;
  }
  return 0;
}

int
raw_zero (struct image *image, uint64_t offset, uint64_t count,
          struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  if (check_not_lost (raw, e) == -1)
    return -1;
  if (raw_punch (image, offset, count, e) == 0)
    return 0;
  return e->num == EOPNOTSUPP ? write_zeroes (raw, offset, count, e) : -1;
}

static int
check_name (struct raw_image *raw, struct error *e)
{
  struct stat there, here;

  LOCK_FOR_SCOPE (&raw->name_lock);
  if (stat (raw_path (raw), &there) == -1)
    return error_set_errno (e, errno, "%s: the target is gone",
                            raw_path (raw));
  if (fstat (raw->fd, &here) == -1)
    return error_set_errno (e, errno, "%s: fstat", raw_path (raw));
  if (there.st_dev != here.st_dev || there.st_ino != here.st_ino)
    return error_set (e, ESTALE, "%s: the target was replaced by another "
                      "file", raw_path (raw));
  return 0;
}

static int
raw_check (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  if (raw_look_for_loss (raw, e) == -1 || check_name (raw, e) == -1)
    return -1;
  return check_length (raw, e);
}

/* The directory too: a new file is nothing without its name. */
static int
raw_flush (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  int num;

  while ((num = fdatasync (raw->flush_fd) == -1 ? errno : 0) == EINTR)
    ;
  if (num != 0) {
    LOCK_FOR_SCOPE (&raw->loss_lock);
    note_loss (raw, num);
  }
  /* The other open file may have been told of something before. */
  if (raw_look_for_loss (raw, e) == -1)
    return -1;
  return image_raw_sync_directory (raw_path (raw), e);
}

void
raw_close (struct image *image)
{
  struct raw_image *raw = (struct raw_image *) image;
  struct raw_name *name, *earlier;

  if (raw->fd >= 0)
    close (raw->fd);
  if (raw->flush_fd >= 0)
    close (raw->flush_fd);
  pthread_mutex_destroy (&raw->name_lock);
  pthread_mutex_destroy (&raw->loss_lock);
  for (name = atomic_load (&raw->name); name; name = earlier) {
    earlier = name->earlier;
    free (name);
  }
  free (raw);
}

const struct image_ops raw_ops = {
  .pread = raw_pread,
  .pwrite = raw_pwrite,
  .extent = raw_extent,
  .verify = raw_verify,
  .zero = raw_zero,
  .punch = raw_punch,
  .check = raw_check,
  .flush = raw_flush,
  .close = raw_close,
};
