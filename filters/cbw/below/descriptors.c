/* SPDX-License-Identifier: BSD-3-Clause */

/* Listing the descriptors of this process, from /proc/self/fd. */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "below/descriptors.h"

/* What is known of a descriptor; false if it is closed. */
static bool
describe (int fd, struct descriptor *d)
{
  struct statx st;

  if (statx (fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
             STATX_TYPE | STATX_INO, &st) == -1)
    return false;
  *d = (struct descriptor) {
    .fd = fd,
    .type = st.stx_mode & S_IFMT,
    .device = makedev (st.stx_dev_major, st.stx_dev_minor),
    .rdev = makedev (st.stx_rdev_major, st.stx_rdev_minor),
    .inode = st.stx_ino,
  };
  return true;
}

static bool
is_in (const struct descriptors *d, const struct descriptor *one)
{
  size_t i;

  for (i = 0; i < d->nr; ++i)
    if (d->list[i].fd == one->fd)
      return d->list[i].type == one->type &&
        d->list[i].device == one->device && d->list[i].rdev == one->rdev &&
        d->list[i].inode == one->inode;
  return false;
}

static int
add (struct descriptors *d, const struct descriptor *one)
{
  struct descriptor *list = realloc (d->list, (d->nr + 1) * sizeof *list);

  if (list == NULL)
    return ENOMEM;
  list[d->nr++] = *one;
  d->list = list;
  return 0;
}

/* All that are in the directory, but for "before" (may be NULL). */
static int
list (struct descriptors *d, DIR *dir, const struct descriptors *before)
{
  const struct dirent *entry;
  struct descriptor one;
  int fd, r = 0;

  while (r == 0 && (errno = 0, entry = readdir (dir)) != NULL) {
    fd = atoi (entry->d_name);
    if (entry->d_name[0] != '.' && fd != dirfd (dir) && describe (fd, &one) &&
        !(before && is_in (before, &one)))
      r = add (d, &one);
  }
  return r != 0 ? r : errno;
}

void
descriptors_get_new (struct descriptors *d, const struct descriptors *before)
{
  DIR *dir = opendir ("/proc/self/fd");

  *d = (struct descriptors) { .err = dir ? 0 : errno };
  if (dir == NULL)
    return;
  d->err = list (d, dir, before);
  closedir (dir);
}

void
descriptors_get (struct descriptors *d)
{
  descriptors_get_new (d, NULL);
}

void
descriptors_free (struct descriptors *d)
{
  free (d->list);
}

bool
descriptor_is_file (const struct descriptor *d)
{
  return d->type == S_IFREG || d->type == S_IFBLK;
}
