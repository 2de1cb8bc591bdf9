/* SPDX-License-Identifier: BSD-3-Clause */

/* Renaming, replacing and removing raw files that are targets.
 *
 * Nothing is removed that another program has open, the guest's disk least
 * of all.  The kernel knows: it gives a lease for a file only if nobody
 * else has it open, and makes others wait in open() until that is given
 * back.  Where it cannot tell, nothing is removed.
 *
 * What is known to be a target of ours may be open for reading: clients read
 * snapshots there.  They would keep the space of one that has gone, so it is
 * emptied; but not if all that is known of it is what an earlier server left in
 * the segment, where others may have written it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/raw/raw.h"
#include "utils/cleanup.h"

/* What there is to say to a person whose file is not removed. */
#define WHAT_TO_DO "choose another, or remove it yourself if it is not needed"

int
raw_check_owner (const struct stat *st, const char *path, struct error *e)
{
  if (!S_ISREG (st->st_mode))
    return error_set (e, EINVAL, "%s: a target must be a regular file", path);
  if (st->st_uid != geteuid ())
    return error_set (e, EPERM, "%s: belongs to another user, and a target "
                      "must belong to the server's", path);
  return 0;
}

int
raw_check_names (const struct stat *st, const char *path, struct error *e)
{
  if (st->st_nlink != 1)
    return error_set (e, EPERM, "%s: has %ju names (hard links), and a target "
                      "must have one", path, (uintmax_t) st->st_nlink);
  return 0;
}

int
raw_check_private (const struct stat *st, const char *path, struct error *e)
{
  if (st->st_mode & 077)
    return error_set (e, EPERM, "%s: other users may open it (mode %03o), and "
                      "a target holds the disk's data: chmod go= it", path,
                      (unsigned) st->st_mode & 0777);
  return 0;
}

/* F_WRLCK: nobody else has it open; F_RDLCK: nobody has for writing.  Returns 1,
 * 0 if somebody has, or -1 with the error set if it cannot be told.
 */
static int
take_lease (int fd, int type, const char *path, struct error *e)
{
  /* Whoever opens the file now has the kernel send us a signal.  The usual
   * one, SIGIO, would end the process; this one is ignored.  (It is the usual
   * one again when the lease has been given back.)
   */
  if (fcntl (fd, F_SETSIG, SIGURG) == 0 && fcntl (fd, F_SETLEASE, type) == 0)
    return 1;
  if (errno == EAGAIN)
    return 0;
  return error_set_errno (e, errno == EBUSY ? EINVAL : errno,
                          "%s: its file system cannot tell whether the file "
                          "is in use; " WHAT_TO_DO, path);
}

int
raw_lease (int fd, const char *path, struct error *e)
{
  const int r = take_lease (fd, F_WRLCK, path, e);

  if (r == 0)
    return error_set (e, EBUSY, "%s: is in use by this server, as its disk, "
                      "its segment or another target, or by another program; "
                      "choose another file", path);
  return r == 1 ? 0 : -1;
}

int
raw_lease_reading (int fd, const char *path, struct error *e)
{
  const int r = take_lease (fd, F_RDLCK, path, e);

  if (r == 0)
    return error_set (e, EBUSY, "%s: is open for writing in this server, as "
                      "its disk or another target, or in another program",
                      path);
  return r == 1 ? 0 : -1;
}

void
raw_release (int fd)
{
  fcntl (fd, F_SETLEASE, F_UNLCK);
}

/* Open the file at the path, which may be removed or replaced while the
 * descriptor is open, for the lease says that others do not use it.  -1 with
 * the error set; ENOENT if there is none.
 */
static int
hold (const char *path, raw_lease_function *lease, struct stat *st,
      struct error *e)
{
  CLEANUP_CLOSE int fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
                               O_CLOEXEC);
  struct stat there;
  int r;

  if (fd == -1 && errno == ELOOP)
    return error_set (e, EINVAL, "%s: a target must be a regular file, not a "
                      "symbolic link", path);
  if (fd == -1 && errno == EWOULDBLOCK)
    return error_set (e, EBUSY, "%s: is in use by another program", path);
  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open", path);
  if (fstat (fd, st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (raw_check_owner (st, path, e) == -1 || lease (fd, path, e) == -1 ||
      raw_check_names (st, path, e) == -1)
    return -1;
  if (lstat (path, &there) == -1 || there.st_dev != st->st_dev ||
      there.st_ino != st->st_ino)
    return error_set (e, EBUSY, "%s: was replaced just now; try again", path);
  r = fd;
  fd = -1;
  return r;
}

int
image_raw_remove_old (const char *path, struct error *e)
{
  struct stat st;
  CLEANUP_CLOSE int fd = hold (path, raw_lease, &st, e);

  if (fd == -1)
    return e->num == ENOENT ? 0 : -1;
  if (unlink (path) == -1)
    return error_set_errno (e, errno, "%s: cannot remove", path);
  return 0;
}

int
image_raw_check_old (const char *path, bool replace, struct error *e)
{
  struct stat st;
  CLEANUP_CLOSE int fd = hold (path, raw_lease, &st, e);

  if (fd == -1)
    return e->num == ENOENT ? 0 : -1;
  if (!replace && st.st_size != 0)
    return error_set (e, EEXIST, "%s: exists and is not empty; choose another "
                      "file, or remove it", path);
  return 0;
}

int
image_raw_remove_unused (const char *path, uint64_t size, struct error *e)
{
  struct stat st;
  CLEANUP_CLOSE int fd = hold (path, raw_lease, &st, e);

  if (fd == -1)
    return e->num == ENOENT ? 0 : -1;
  if (raw_check_private (&st, path, e) == -1)
    return -1;
  if (st.st_blocks != 0 || (st.st_size != 0 && (uint64_t) st.st_size != size))
    return error_set (e, EEXIST, "%s: is not the empty file that was made "
                      "here", path);
  if (unlink (path) == -1)
    return error_set_errno (e, errno, "%s: cannot remove", path);
  return 0;
}

int
image_raw_remove (const char *path, uint64_t size, const struct image_id *id,
                  struct error *e)
{
  struct stat st;
  CLEANUP_CLOSE int fd = hold (path, raw_lease_reading, &st, e);

  if (fd == -1)
    return e->num == ENOENT ? 0 : -1;
  if (raw_check_private (&st, path, e) == -1)
    return -1;
  /* An inode may be used again. */
  if (st.st_dev != id->device || st.st_ino != id->inode ||
      (uint64_t) st.st_size != size)
    return error_set (e, ESTALE, "%s: is another file now", path);
  if (unlink (path) == -1)
    return error_set_errno (e, errno, "%s: cannot remove", path);
  return 0;
}

/* Does the image's name still lead to its file?  name_lock is held. */
static int
check_is_there (const struct raw_image *raw, struct error *e)
{
  struct stat there, here;

  if (lstat (raw_path (raw), &there) == -1 || fstat (raw->fd, &here) == -1)
    return error_set_errno (e, errno, "%s", raw_path (raw));
  if (there.st_dev != here.st_dev || there.st_ino != here.st_ino)
    return error_set (e, ESTALE, "%s: is another file now", raw_path (raw));
  return 0;
}

/* The file has been removed, and nobody writes to it.  Others that have it
 * open keep its space until they close it: give that back.  If it has got
 * another name it is somebody else's now.
 */
static void
empty_removed (int fd)
{
  struct stat st;

  if (fstat (fd, &st) == 0 && st.st_nlink == 0)
    while (ftruncate (fd, 0) == -1 && errno == EINTR)
      ;
}

int
image_raw_discard (struct image *image, struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  {
    LOCK_FOR_SCOPE (&raw->name_lock);
    if (check_is_there (raw, e) == -1)
      return e->num == ENOENT ? 0 : -1;
    if (unlink (raw_path (raw)) == -1)
      return error_set_errno (e, errno, "%s: cannot remove", raw_path (raw));
  }
  empty_removed (raw->fd);
  return 0;
}

bool
image_is_raw (const struct image *image)
{
  return image->ops == &raw_ops;
}

int
image_raw_fd (const struct image *image, const char **path)
{
  const struct raw_image *raw = (const struct raw_image *) image;

  *path = raw_path (raw);
  return raw->fd;
}

bool
image_raw_is_at (const struct image *image, const char *path)
{
  return strcmp (raw_path ((const struct raw_image *) image), path) == 0;
}

/* Rename to where no file is.  Some file systems, NFS for one, cannot do
 * that in one step.
 */
static int
rename_to_nothing (const char *from, const char *to)
{
  struct stat st;

  if (renameat2 (AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS)
    return -1;
  if (lstat (to, &st) == 0) {
    errno = EEXIST;
    return -1;
  }
  return errno == ENOENT ? rename (from, to) : -1;
}

/* Rename over an old file, if there is one and it may go.  *old is that
 * file, for the caller to close.
 */
static int
rename_over (const char *from, const char *to, bool replace, int *old,
             struct error *e)
{
  struct stat st;

  *old = hold (to, raw_lease, &st, e);
  if (*old == -1 && e->num != ENOENT)
    return -1;
  if (*old >= 0 && !replace && st.st_size != 0)
    return error_set (e, EEXIST, "%s: a file has appeared there, and is not "
                      "empty", to);
  if ((*old >= 0 ? rename (from, to) : rename_to_nothing (from, to)) == -1)
    return error_set_errno (e, errno, "%s: cannot rename to %s", from, to);
  return 0;
}

static int
rename_image (struct raw_image *raw, const char *to, bool over, bool replace,
              struct error *e)
{
  struct raw_name *name = raw_name_new (to);
  CLEANUP_CLOSE int old = -1;   /* closed without the lock: its data goes */
  int r = -1;

  if (name == NULL)
    return error_set_errno (e, ENOMEM, "%s", to);
  LOCK_FOR_SCOPE (&raw->name_lock);
  if (check_is_there (raw, e) == -1)
    ;
  else if (over)
    r = rename_over (raw_path (raw), to, replace, &old, e);
  else if (rename_to_nothing (raw_path (raw), to) == -1)
    error_set_errno (e, errno, "%s: cannot rename to %s", raw_path (raw), to);
  else
    r = 0;
  if (r == 0)
    raw_set_name (raw, name);
  else
    free (name);
  return r;
}

int
image_raw_move (struct image *image, const char *to, struct error *e)
{
  return rename_image ((struct raw_image *) image, to, false, false, e);
}

int
image_raw_publish (struct image *image, const char *to, bool replace,
                   struct error *e)
{
  if (!image_raw_is_at (image, to) &&
      rename_image ((struct raw_image *) image, to, true, replace, e) == -1)
    return -1;
  return image_raw_sync_directory (to, e);
}

int
image_raw_sync_directory (const char *path, struct error *e)
{
  CLEANUP_FREE char *dir = strdup (path);
  CLEANUP_CLOSE int fd = -1;
  char *slash = dir ? strrchr (dir, '/') : NULL;

  if (slash)
    slash[slash == dir] = '\0';
  if (dir)
    fd = open (slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  /* EINVAL: the file system cannot, or need not. */
  if (fd == -1 || (fsync (fd) == -1 && errno != EINVAL))
    return error_set_errno (e, errno, "%s: cannot flush its directory to disk",
                            path);
  return 0;
}
