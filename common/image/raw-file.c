/* SPDX-License-Identifier: BSD-3-Clause */

/* Making, opening, moving and removing raw files that are targets. */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "ofdlock.h"
#include "raw.h"

/* Bytes that must be free for a new target: a cluster of the usual size. */
#define ROOM_MIN (64 * 1024)

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

  raw = calloc (1, sizeof *raw);
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
