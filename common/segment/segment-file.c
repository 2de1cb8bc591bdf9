/* SPDX-License-Identifier: BSD-3-Clause */

/* Whose a segment file is, and whether it is a segment.  segment-file.h has
 * the reasons; the server and the clients both come through here.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/segment-file.h"

int
segment_file_open (const char *path, int flags, struct error *e)
{
  /* O_NONBLOCK: a pipe, which is refused later, must not be waited for. */
  const int fd = open (path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

  if (fd == -1 && errno == ELOOP)
    return error_set (e, ELOOP, "%s: is a symbolic link; name the segment "
                      "that it leads to", path);
  if (fd == -1 && errno == EACCES)
    return error_set (e, EACCES, "%s: cannot open the segment: Permission "
                      "denied; only the user of its server can", path);
  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open the segment", path);
  return fd;
}

int
segment_file_header (int fd, const char *path, struct cbw_header *h,
                     uint64_t *file_size, struct error *e)
{
  struct stat st;

  memset (h, 0, sizeof *h);
  if (fstat (fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (!S_ISREG (st.st_mode))
    return error_set (e, EINVAL, "%s: a segment must be a regular file", path);
  if (pread (fd, h, sizeof *h, 0) == -1)
    return error_set_errno (e, errno, "%s: cannot read", path);
  *file_size = (uint64_t) st.st_size;
  return 0;
}

static int
check_private (int fd, const char *path, enum segment_owner owner,
               struct error *e)
{
  const uid_t us = geteuid ();
  struct stat st;

  if (fstat (fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (st.st_uid != us && (owner == SEGMENT_OURS || us != 0))
    return error_set (e, EPERM, "%s: belongs to another user (id %u, and "
                      "this program runs as %u); run this as that user, or "
                      "choose another segment", path, (unsigned) st.st_uid,
                      (unsigned) us);
  /* With access control lists, the bits of the group are their mask. */
  if (st.st_mode & (S_IRWXG | S_IRWXO))
    return error_set (e, EPERM, "%s: other users may open it (its mode is "
                      "%03o); remove it, or if you know that nobody has, "
                      "say chmod 600 %s", path,
                      (unsigned) st.st_mode & 07777, path);
  if (st.st_nlink > 1)
    return error_set (e, EPERM, "%s: is one of %lu names (hard links) of "
                      "this file; remove the others, or choose another "
                      "segment", path, (unsigned long) st.st_nlink);
  return 0;
}

int
segment_file_check (int fd, const char *path, enum segment_owner owner,
                    struct cbw_header *h, uint64_t *file_size,
                    struct error *e)
{
  if (segment_file_header (fd, path, h, file_size, e) == -1)
    return -1;
  /* A foreign file is called foreign, whatever its mode. */
  if (!layout_is_unfinished (h, *file_size) &&
      layout_check (h, *file_size, path, e) == -1)
    return -1;
  return check_private (fd, path, owner, e);
}
