/* SPDX-License-Identifier: BSD-3-Clause */

/* Finding the file that the source is: by the order of what nbdkit has loaded,
 * the descriptor that a context has opened, and what is read through both.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "below/plugin.h"
#include "below/source-file.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* How much is compared, and in how many places. */
#define COMPARE_SIZE UINT64_C (4096)
#define COMPARE_NR 8

/* The size of what the descriptor is open for. */
static int
file_size (const struct descriptor *d, uint64_t *size)
{
  struct stat st;

  if (d->type == S_IFBLK)
    return ioctl (d->fd, BLKGETSIZE64, size);
  if (fstat (d->fd, &st) == -1)
    return -1;
  *size = (uint64_t) st.st_size;
  return 0;
}

/* S2: the one descriptor that is new is the plugin's. */
static int
check_descriptor (const struct descriptors *added, uint64_t size,
                  struct error *e)
{
  const struct descriptor *d = added->list;
  uint64_t there;
  int flags;

  if (added->nr != 1)
    return error_set (e, ENOTSUP, "the plugin has opened %zu descriptors, and "
                      "not one", added->nr);
  if (!descriptor_is_file (d))
    return error_set (e, ENOTSUP, "what the plugin has opened is neither a "
                      "regular file nor a block device");
  flags = fcntl (d->fd, F_GETFL);
  if (flags == -1 || (flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH))
    return error_set (e, ENOTSUP, "the file that the plugin has opened cannot "
                      "be read");
  if (file_size (d, &there) == -1)
    return error_set_errno (e, errno, "the size of the file that the plugin "
                            "has opened");
  if (there != size)
    return error_set (e, ENOTSUP, "the file that the plugin has opened has "
                      "%" PRIu64 " bytes, and the disk %" PRIu64, there, size);
  return 0;
}

/* Read a block in both ways; "buf" has room for two. */
static int
compare_block (nbdkit_next *next, int fd, uint64_t offset, uint32_t count,
               char *buf, struct error *e)
{
  int err = EIO;
  ssize_t r;

  if (next->pread (next, buf, count, offset, 0, &err) == -1)
    return error_set_errno (e, err, "the disk cannot be read at offset %"
                            PRIu64, offset);
  do
    r = pread (fd, buf + count, count, (off_t) offset);
  while (r == -1 && errno == EINTR);
  if (r == -1)
    return error_set_errno (e, errno, "the file cannot be read at offset %"
                            PRIu64, offset);
  if (r != (ssize_t) count || memcmp (buf, buf + count, count) != 0)
    return error_set (e, ENOTSUP, "the disk is not what is in the file at "
                      "offset %" PRIu64, offset);
  return 0;
}

/* S3: the first block, the last, and some between. */
static int
compare (nbdkit_next *next, int fd, uint64_t size, uint32_t minimum_block,
         struct error *e)
{
  const uint64_t block = max_u64 (COMPARE_SIZE, minimum_block);
  const uint64_t nr = size / block + (size % block != 0);
  CLEANUP_FREE char *buf = malloc (2 * block);
  uint64_t offset;
  unsigned i;

  if (buf == NULL)
    return error_set_errno (e, ENOMEM, "comparing the disk with its file");
  for (i = 0; i < COMPARE_NR && nr > 0; ++i) {
    offset = (nr - 1) * i / (COMPARE_NR - 1) * block;
    if (compare_block (next, fd, offset,
                       (uint32_t) min_u64 (block, size - offset), buf,
                       e) == -1)
      return -1;
  }
  return 0;
}

/* The descriptors that are new. */
static int
get_new (struct descriptors *added, const struct descriptors *before,
         struct error *e)
{
  if (before->err == 0)
    descriptors_get_new (added, before);
  else
    *added = (struct descriptors) { .err = before->err };
  if (added->err == 0)
    return 0;
  return error_set_errno (e, added->err, "/proc/self/fd cannot be read");
}

int
source_file_find (struct source_file *f, nbdkit_next *next, uint64_t size,
                  uint32_t minimum_block, const struct descriptors *before,
                  struct error *e)
{
  CLEANUP_DESCRIPTORS struct descriptors added;

  if (get_new (&added, before, e) == -1 ||
      plugin_is_next ("file", e) == -1 ||                           /* S1 */
      check_descriptor (&added, size, e) == -1 ||                   /* S2 */
      compare (next, added.list->fd, size, minimum_block, e) == -1) /* S3 */
    return -1;
  f->fd = added.list->fd;
  f->device = added.list->device;
  f->rdev = added.list->rdev;
  f->inode = added.list->inode;
  atomic_store (&f->known, true);
  return 0;
}

int
source_file_check (const struct source_file *f,
                   const struct descriptors *before, struct error *e)
{
  CLEANUP_DESCRIPTORS struct descriptors added;
  const struct descriptor *d;
  unsigned nr = 0;
  size_t i;

  if (get_new (&added, before, e) == -1)
    return -1;
  for (i = 0; i < added.nr; ++i) {
    d = &added.list[i];
    if (!descriptor_is_file (d))
      continue;
    if (d->device != f->device || d->rdev != f->rdev || d->inode != f->inode)
      return error_set (e, ENOTSUP, "the disk has grown, and when it was "
                        "opened anew another file was opened, too; it may be "
                        "in another file now");
    nr++;
  }
  if (nr == 0)
    return error_set (e, ENOTSUP, "the disk has grown, and when it was opened "
                      "anew its file was not opened");
  return 0;
}

void
source_file_path (const struct source_file *f, char *path, size_t size)
{
  char link[32];
  ssize_t r;

  snprintf (link, sizeof link, "/proc/self/fd/%d", f->fd);
  r = readlink (link, path, size);
  if (r == -1 || (size_t) r >= size)
    r = 0;
  path[r] = '\0';
}
