/* SPDX-License-Identifier: BSD-3-Clause */

/* Making and opening raw files that are targets.
 *
 * What a path leads to is believed only of a file that this program may
 * have made: opened without following a link, regular, of this user, with
 * one name, closed to others, and open nowhere else.  One that is known to be
 * ours may be open elsewhere for reading: clients read snapshots there.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "image/raw/raw.h"
#include "utils/cleanup.h"
#include "utils/ofdlock.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* Bytes that must be free for a new target: a cluster of the usual size. */
#define ROOM_MIN (64 * 1024)

bool
raw_is_coherent (int fd)
{
  struct statfs fs;

  if (fstatfs (fd, &fs) == -1)
    return false;
  switch ((unsigned long) fs.f_type) {
  case TMPFS_MAGIC:
  case EXT4_SUPER_MAGIC:        /* ext2 and ext3, too */
  case XFS_SUPER_MAGIC:
  case BTRFS_SUPER_MAGIC:
    return true;
  default:
    return false;
  }
}

bool
image_raw_is_coherent (const struct image *image)
{
  return ((const struct raw_image *) image)->coherent;
}

struct raw_name *
raw_name_new (const char *path)
{
  struct raw_name *name = malloc (sizeof *name + strlen (path) + 1);

  if (name) {
    name->earlier = NULL;
    strcpy (name->path, path);
  }
  return name;
}

void
raw_set_name (struct raw_image *raw, struct raw_name *name)
{
  name->earlier = atomic_load (&raw->name);
  atomic_store (&raw->name, name);
}

int
raw_image_init (struct raw_image *raw, const char *path, uint64_t size)
{
  struct raw_name *name = raw_name_new (path);

  if (name == NULL)
    return -1;
  raw->image.ops = &raw_ops;
  raw->image.reads_zero = true;
  raw->size = size;
  pthread_mutex_init (&raw->name_lock, NULL);
  pthread_mutex_init (&raw->loss_lock, NULL);
  atomic_init (&raw->name, name);
  raw->fd = raw->flush_fd = -1;
  return 0;
}

struct raw_image *
raw_image_new (int *fd, int *flush_fd, const char *path, uint64_t size,
               struct error *e)
{
  struct raw_image *raw = calloc (1, sizeof *raw);

  if (raw == NULL || raw_image_init (raw, path, size) == -1) {
    free (raw);
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  raw->coherent = raw_is_coherent (*fd);
  raw->fd = *fd;
  raw->flush_fd = *flush_fd;
  *fd = *flush_fd = -1;
  return raw;
}

/* Why the path could not be opened: errno is set. */
static int
explain_open (const char *path, struct error *e)
{
  if (errno == ELOOP)
    return error_set (e, ELOOP, "%s: is a symbolic link, which a target may not "
                      "be; put the file itself there", path);
  /* EWOULDBLOCK: somebody has a lease for it. */
  return error_set_errno (e, errno == EWOULDBLOCK ? EBUSY : errno,
                          "%s: cannot open the target", path);
}

int
raw_open_again (const char *path, int mode, const struct stat *st,
                struct error *e)
{
  const int fd = open (path, mode | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat again;

  if (fd == -1)
    return explain_open (path, e);
  if (fstat (fd, &again) == 0 && again.st_dev == st->st_dev &&
      again.st_ino == st->st_ino)
    return fd;
  close (fd);
  return error_set (e, EBUSY, "%s: was replaced while it was opened", path);
}

/* Is it a file that this program may have made, and nobody else's to use? */
static int
check_ours (const struct stat *st, const char *path, struct error *e)
{
  return raw_check_owner (st, path, e) == -1 ||
    raw_check_names (st, path, e) == -1 ||
    raw_check_private (st, path, e) == -1 ? -1 : 0;
}

/* It stays locked, while it is open. */
static int
lock (int fd, const char *path, struct error *e)
{
  switch (ofdlock_try (fd, 0, 0)) {
  case 1:
    return 0;
  case 0:
    return error_set (e, EBUSY, "%s: is locked: another program is using it",
                      path);
  default:
    return error_set_errno (e, errno, "%s: cannot lock", path);
  }
}

/* Is the file used elsewhere, as the lease says?  Where the file system cannot
 * tell that is no reason to refuse a file which nothing is going to remove.
 */
static int
check_not_in_use (int fd, raw_lease_function *lease, const char *path,
                  struct error *e)
{
  if (lease (fd, path, e) == -1)
    return e->num == EBUSY ? -1 : 0;
  raw_release (fd);
  return 0;
}

int
raw_claim (int fd, const char *path, const struct stat *st, struct error *e)
{
  return check_ours (st, path, e) == -1 ||
    check_not_in_use (fd, raw_lease, path, e) == -1 ||
    lock (fd, path, e) == -1 ? -1 : 0;
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

/* Open what is to be a new target, made here if there is no such file. */
static int
open_new (const char *path, bool *created, struct error *e)
{
  int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

  *created = fd >= 0;
  if (fd == -1 && errno == EEXIST)
    fd = open (path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0)
    return fd;
  if (errno == ELOOP || errno == EISDIR || errno == ENXIO)
    return error_set (e, EINVAL, "%s: a target must be a regular file", path);
  if (errno == EWOULDBLOCK)
    return error_set (e, EBUSY, "%s: is in use by another program", path);
  return error_set_errno (e, errno, "%s: cannot create the target", path);
}

/* Make the open file a target; *st is set. */
static int
prepare_new (int fd, const char *path, uint64_t size, struct stat *st,
             struct error *e)
{
  if (fstat (fd, st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (S_ISREG (st->st_mode) && check_not_in_use (fd, raw_lease, path, e) == -1)
    return -1;
  if (S_ISREG (st->st_mode) && st->st_size != 0)
    return error_set (e, EEXIST, "%s: exists and is not empty; choose another "
                      "file, or if it is left from an earlier snapshot, "
                      "remove it", path);
  if (check_ours (st, path, e) == -1 || lock (fd, path, e) == -1 ||
      check_room (fd, path, e) == -1)
    return -1;
  if (ftruncate (fd, (off_t) size) == -1)
    return error_set_errno (e, errno, "%s: cannot make it %" PRIu64
                            " bytes long", path, size);
  return 0;
}

struct image *
image_raw_create (const char *path, uint64_t size, struct image_id *id,
                  bool *created, struct error *e)
{
  CLEANUP_CLOSE int fd = -1, flush_fd = -1;
  struct raw_image *raw = NULL;
  struct stat st;

  fd = open_new (path, created, e);
  if (fd == -1)
    return NULL;
  if (prepare_new (fd, path, size, &st, e) == 0 &&
      (flush_fd = raw_open_again (path, O_RDONLY, &st, e)) >= 0)
    raw = raw_image_new (&fd, &flush_fd, path, size, e);
  if (raw == NULL) {
    if (*created)
      unlink (path);
    *created = false;
    return NULL;
  }
  *id = (struct image_id) { .device = st.st_dev, .inode = st.st_ino };
  return &raw->image;
}

/* There is no file at the path.  It is gone for good if its directory is
 * there, on the file system where it was.
 */
static enum image_raw_opened
explain_missing (const char *path, const struct image_id *id,
                 struct error *e)
{
  CLEANUP_FREE char *dir = strdup (path);
  char *slash = dir ? strrchr (dir, '/') : NULL;
  struct stat st;

  error_set_errno (e, ENOENT, "%s: cannot open the target", path);
  if (slash == NULL)
    return IMAGE_RAW_NOT_NOW;
  slash[slash == dir] = '\0';
  if (stat (dir, &st) == -1) {
    error_set_errno (e, errno, "%s: cannot open the target: %s", path, dir);
    return IMAGE_RAW_NOT_NOW;
  }
  if (st.st_dev == id->device)
    return IMAGE_RAW_LOST;
  error_set (e, ENOENT, "%s: cannot open the target: there is no such file, "
             "and %s is on another file system than the target was: is that "
             "not mounted?", path, dir);
  return IMAGE_RAW_NOT_NOW;
}

/* Is the open file the target?  What proves that it is not comes first. */
static enum image_raw_opened
check_identity (int fd, const char *path, uint64_t size,
                const struct image_id *id, struct stat *st, struct error *e)
{
  if (fstat (fd, st) == -1) {
    error_set_errno (e, errno, "%s: fstat", path);
    return IMAGE_RAW_NOT_NOW;
  }
  if (st->st_dev != id->device) {
    error_set (e, EBUSY, "%s: is on another file system than the target was: "
               "is that not mounted?", path);
    return IMAGE_RAW_NOT_NOW;
  }
  if (st->st_ino != id->inode) {
    error_set (e, ESTALE, "%s: is not the file the snapshot was made with",
               path);
    return IMAGE_RAW_LOST;
  }
  if ((uint64_t) st->st_size != size) {
    error_set (e, ESTALE, "%s: is %" PRIu64 " bytes long, not %" PRIu64
               ": something resized it", path, (uint64_t) st->st_size, size);
    return IMAGE_RAW_LOST;
  }
  if (check_ours (st, path, e) == -1 ||
      check_not_in_use (fd, raw_lease_reading, path, e) == -1)
    return IMAGE_RAW_NOT_NOW;
  return IMAGE_RAW_OPENED;
}

enum image_raw_opened
image_raw_open (const char *path, uint64_t size, const struct image_id *id,
                struct image **image, struct error *e)
{
  CLEANUP_CLOSE int fd = -1, flush_fd = -1;
  enum image_raw_opened r;
  struct raw_image *raw;
  struct stat st;

  *image = NULL;
  /* Open it for reading first.  The kernel gives no read lease to a process
   * that has the file open for writing itself.
   */
  flush_fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (flush_fd == -1 && errno == ENOENT)
    return explain_missing (path, id, e);
  if (flush_fd == -1) {
    explain_open (path, e);
    return IMAGE_RAW_NOT_NOW;
  }
  r = check_identity (flush_fd, path, size, id, &st, e);
  if (r != IMAGE_RAW_OPENED)
    return r;
  fd = raw_open_again (path, O_RDWR, &st, e);
  raw = fd >= 0 && lock (fd, path, e) == 0 ?
    raw_image_new (&fd, &flush_fd, path, size, e) : NULL;
  if (raw == NULL)
    return IMAGE_RAW_NOT_NOW;
  /* What failed while nobody had it open, and nobody has been told of. */
  if (raw_look_for_loss (raw, e) == -1) {
    raw_close (&raw->image);
    return IMAGE_RAW_LOST;
  }
  *image = &raw->image;
  return IMAGE_RAW_OPENED;
}
