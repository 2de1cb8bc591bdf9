/* SPDX-License-Identifier: BSD-3-Clause */

/* A raw file as target: sparse, a byte of the disk at its own offset. */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "image.h"
#include "ofdlock.h"
#include "rounding.h"

/* Bytes that must be free for a new target: a cluster of the usual size. */
#define ROOM_MIN (64 * 1024)

struct raw_image {
  struct image image;
  int fd;
  char *path;
  uint64_t size;                /* bytes */

  /* Held around writes.  The kernel lets one buffered write at a time into
   * a file anyway, but has the others spin meanwhile: a sleeping lock
   * leaves the CPU to those who read, which measured up to five times
   * faster with many writers on few cores.
   */
  pthread_mutex_t write_lock;
};

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

static void
raw_close (struct image *image)
{
  struct raw_image *raw = (struct raw_image *) image;

  close (raw->fd);
  pthread_mutex_destroy (&raw->write_lock);
  free (raw->path);
  free (raw);
}

static const struct image_ops raw_ops = {
  .pread = raw_pread,
  .pwrite = raw_pwrite,
  .extent = raw_extent,
  .punch = raw_punch,
  .check = raw_check,
  .flush = raw_flush,
  .close = raw_close,
};

/* Check and lock what was opened.  Takes over *fd if it succeeds. */
static struct image *
raw_new (int *fd, const char *path, struct stat *st, struct error *e)
{
  struct raw_image *raw;

  if (fstat (*fd, st) == -1) {
    error_set_errno (e, errno, "%s: fstat", path);
    return NULL;
  }
  if (!S_ISREG (st->st_mode)) {
    error_set (e, EINVAL, "%s: a target must be a regular file", path);
    return NULL;
  }
  switch (ofdlock_try (*fd, 0, 0)) {
  case 1: break;
  case 0:
    error_set (e, EBUSY, "%s: is locked: another program is using it", path);
    return NULL;
  default:
    error_set_errno (e, errno, "%s: cannot lock", path);
    return NULL;
  }

  raw = malloc (sizeof *raw);
  if (raw == NULL || (raw->path = strdup (path)) == NULL) {
    free (raw);
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  raw->image.ops = &raw_ops;
  raw->image.reads_zero = true;
  pthread_mutex_init (&raw->write_lock, NULL);
  raw->fd = *fd;
  *fd = -1;
  return &raw->image;
}

/* Has this process the file open, as the disk it serves perhaps? */
static bool
open_here (const struct stat *st)
{
  DIR *dir = opendir ("/proc/self/fd");
  struct dirent *d;
  struct stat other;
  bool r = false;

  while (dir && !r && (d = readdir (dir)) != NULL)
    r = fstatat (dirfd (dir), d->d_name, &other, 0) == 0 &&
      other.st_dev == st->st_dev && other.st_ino == st->st_ino;
  if (dir)
    closedir (dir);
  return r;
}

/* What stands at a target's path is in use here: is it? */
static int
check_not_open_here (const char *path, const struct stat *st, struct error *e)
{
  if (!open_here (st))
    return 0;
  return error_set (e, EBUSY, "%s: is in use by this server, as its disk, "
                    "its segment or another target; choose another file",
                    path);
}

/* Is there room for the first copies?  Without, the snapshot would break
 * as soon as it is needed.
 */
static int
check_room (int fd, const char *path, struct error *e)
{
  struct statvfs fs;

  if (fstatvfs (fd, &fs) == -1 || fs.f_blocks == 0)
    return 0;                   /* it does not know */
  if ((uint64_t) fs.f_bfree * fs.f_frsize >= ROOM_MIN)
    return 0;
  return error_set_errno (e, ENOSPC, "%s: its file system is full; make room, "
                          "or choose another target", path);
}

struct image *
image_raw_create (const char *path, uint64_t size, struct image_id *id,
                  bool *created, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct image *image;
  struct stat st;

  fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  *created = fd >= 0;
  if (fd == -1 && errno == EEXIST) {
    if (stat (path, &st) == 0 && S_ISREG (st.st_mode) &&
        check_not_open_here (path, &st, e) == -1)
      return NULL;
    fd = open (path, O_RDWR | O_CLOEXEC);
  }
  if (fd == -1) {
    error_set_errno (e, errno, "%s: cannot create the target", path);
    return NULL;
  }

  image = raw_new (&fd, path, &st, e);
  if (image == NULL)
    goto undo;
  if (st.st_size != 0) {
    error_set (e, EEXIST, "%s: exists and is not empty; choose another "
               "file, or if it is left from an earlier snapshot, remove it",
               path);
    goto undo;
  }
  if (check_room (((struct raw_image *) image)->fd, path, e) == -1)
    goto undo;
  if (ftruncate (((struct raw_image *) image)->fd, (off_t) size) == -1) {
    error_set_errno (e, errno, "%s: cannot make it %" PRIu64 " bytes long",
                     path, size);
    goto undo;
  }
  ((struct raw_image *) image)->size = size;
  id->device = st.st_dev;
  id->inode = st.st_ino;
  return image;

 undo:
  if (*created)
    unlink (path);
  if (image)
    raw_close (image);
  return NULL;
}

struct image *
image_raw_open (const char *path, uint64_t size, const struct image_id *id,
                struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct image *image;
  struct stat st;

  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd == -1) {
    error_set_errno (e, errno, "%s: cannot open the target", path);
    return NULL;
  }
  image = raw_new (&fd, path, &st, e);
  if (image == NULL)
    return NULL;
  if (st.st_dev != id->device || st.st_ino != id->inode) {
    error_set (e, ESTALE, "%s: is not the file the snapshot was made with",
               path);
    raw_close (image);
    return NULL;
  }
  if ((uint64_t) st.st_size != size) {
    error_set (e, ESTALE, "%s: is %" PRIu64 " bytes long, not %" PRIu64
               ": something resized it", path, (uint64_t) st.st_size, size);
    raw_close (image);
    return NULL;
  }
  ((struct raw_image *) image)->size = size;
  return image;
}

int
image_raw_remove_old (const char *path, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct stat st;

  if (lstat (path, &st) == -1) {
    if (errno == ENOENT)
      return 0;
    return error_set_errno (e, errno, "%s", path);
  }
  if (!S_ISREG (st.st_mode))
    return error_set (e, EINVAL, "%s: a target must be a regular file", path);
  if (check_not_open_here (path, &st, e) == -1)
    return -1;
  fd = open (path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open", path);
  if (ofdlock_try (fd, 0, 0) != 1)
    return error_set (e, EBUSY, "%s: is locked: another program is using it",
                      path);
  if (unlink (path) == -1)
    return error_set_errno (e, errno, "%s: cannot remove", path);
  return 0;
}

static bool
is_file (const char *path, const struct image_id *id)
{
  struct stat st;

  return lstat (path, &st) == 0 && st.st_dev == id->device &&
    st.st_ino == id->inode;
}

int
image_raw_move (const char *from, const char *to, const struct image_id *id,
                struct error *e)
{
  if (!is_file (from, id))
    return error_set (e, ESTALE, "%s: is another file now", from);
  if (renameat2 (AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == -1)
    return error_set_errno (e, errno, "%s: cannot rename to %s", from, to);
  return 0;
}

void
image_raw_discard (const char *path, const struct image_id *id, uint64_t size)
{
  struct stat st;

  if (is_file (path, id) && lstat (path, &st) == 0 &&
      (uint64_t) st.st_size == size)
    unlink (path);
}
