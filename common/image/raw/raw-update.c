/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that hold an image of the disk at an earlier point: what they say they
 * are, and opening one to bring it up to date.
 *
 *   user.nbdkit-cbw.point   UUID SIZE MTIME: the image of that point, if the
 *                           file has that size and time of modification
 *   user.nbdkit-cbw.base    UUID: on its way from that point
 *
 * A file has one of them at most.  The new one is set before the old one is
 * removed, and a file that has both is on its way.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "image/raw/raw.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

#define MARK_POINT "user.nbdkit-cbw.point"
#define MARK_BASE "user.nbdkit-cbw.base"
#define MARK_MAX 96

static void
print_uuid (const uint8_t uuid[16], char text[33])
{
  unsigned i;

  for (i = 0; i < 16; ++i)
    sprintf (text + 2 * i, "%02x", uuid[i]);
}

static bool
scan_uuid (const char *text, uint8_t uuid[16])
{
  unsigned i;

  for (i = 0; i < 16; ++i)
    if (sscanf (text + 2 * i, "%2hhx", &uuid[i]) != 1)
      return false;
  return true;
}

/* What the file is, for its mark: any change of its bytes changes that. */
static void
print_state (const struct stat *st, char text[64])
{
  snprintf (text, 64, " %ju %ju.%09ld", (uintmax_t) st->st_size,
            (uintmax_t) st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* Read the attribute; false if there is none. */
static bool
get (int fd, const char *name, char text[MARK_MAX])
{
  const ssize_t r = fgetxattr (fd, name, text, MARK_MAX - 1);

  text[r > 0 ? r : 0] = '\0';
  return r >= 32;
}

static void
read_mark (int fd, const struct stat *st, struct image_mark *mark)
{
  char text[MARK_MAX], state[64];

  print_state (st, state);
  if (get (fd, MARK_BASE, text) && scan_uuid (text, mark->uuid))
    mark->kind = IMAGE_MARK_ON_ITS_WAY;
  else if (get (fd, MARK_POINT, text) && scan_uuid (text, mark->uuid) &&
           strcmp (text + 32, state) == 0)
    mark->kind = IMAGE_MARK_WHOLE;
}

int
image_raw_read_mark (const char *path, struct image_mark *mark,
                     struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct stat st;

  *mark = (struct image_mark) { .kind = IMAGE_MARK_NONE };
  fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1 && errno == ENOENT)
    return 0;
  if (fd == -1 || fstat (fd, &st) == -1)
    return error_set_errno (e, errno, "%s: cannot be opened to see which image "
                            "it is", path);
  if (S_ISREG (st.st_mode))
    read_mark (fd, &st, mark);
  return 0;
}

static int
set_mark (int fd, const char *path, const struct image_mark *mark,
          struct error *e)
{
  const bool whole = mark->kind == IMAGE_MARK_WHOLE;
  char text[MARK_MAX], state[64] = "";
  struct stat st;

  if (fstat (fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (whole)
    print_state (&st, state);
  print_uuid (mark->uuid, text);
  strcat (text, state);
  if (fsetxattr (fd, whole ? MARK_POINT : MARK_BASE, text, strlen (text),
                 0) == -1)
    return error_set_errno (e, errno, "%s: cannot be marked with which image "
                            "it is (extended attributes)", path);
  if (fremovexattr (fd, whole ? MARK_BASE : MARK_POINT) == -1 &&
      errno != ENODATA)
    return error_set_errno (e, errno, "%s: its mark cannot be removed", path);
  if (fsync (fd) == -1)
    return error_set_errno (e, errno, "%s: cannot flush it to disk", path);
  return 0;
}

int
image_raw_mark (struct image *image, const struct image_mark *mark,
                struct error *e)
{
  struct raw_image *raw = (struct raw_image *) image;

  return set_mark (raw->fd, raw_path (raw), mark, e);
}

/* Make the open file, of *st, what image_raw_update promises. */
static int
prepare (int fd, const char *path, uint64_t size, const uint8_t uuid[16],
         const struct stat *st, struct error *e)
{
  struct image_mark mark = { .kind = IMAGE_MARK_ON_ITS_WAY };

  memcpy (mark.uuid, uuid, sizeof mark.uuid);
  if (raw_claim (fd, path, st, e) == -1 ||
      set_mark (fd, path, &mark, e) == -1)                          /* Y1 */
    return -1;
  if (ftruncate (fd, (off_t) size) == -1)                           /* Y2 */
    return error_set_errno (e, errno, "%s: cannot make it %" PRIu64
                            " bytes long", path, size);
  return 0;
}

struct image *
image_raw_update (const char *path, uint64_t size, const uint8_t uuid[16],
                  struct image_id *id, struct error *e)
{
  CLEANUP_CLOSE int fd = -1, flush_fd = -1;
  struct raw_image *raw;
  struct stat st;

  fd = open (path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1 || fstat (fd, &st) == -1) {
    error_set_errno (e, errno, "%s: cannot be opened to bring it up to date",
                     path);
    return NULL;
  }
  if (prepare (fd, path, size, uuid, &st, e) == -1 ||
      (flush_fd = raw_open_again (path, O_RDONLY, &st, e)) == -1)
    return NULL;
  raw = raw_image_new (&fd, &flush_fd, path, size, e);
  if (raw == NULL)
    return NULL;
  raw->image.reads_zero = false;
  *id = (struct image_id) { .device = st.st_dev, .inode = st.st_ino };
  return &raw->image;
}
