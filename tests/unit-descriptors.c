/* SPDX-License-Identifier: BSD-3-Clause */

/* Which descriptors are new: those that were opened, and those whose number
 * has another file now.
 */

#include <config.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "below/descriptors.h"
#include "unit.h"

static int
open_new (void)
{
  char path[] = "/tmp/cbw-descriptors-XXXXXX";
  const int fd = mkstemp (path);

  CHECK (fd >= 0);
  CHECK_EQ (unlink (path), 0);
  return fd;
}

static void
test_none (void)
{
  struct descriptors before, added;

  descriptors_get (&before);
  CHECK_EQ (before.err, 0);
  CHECK (before.nr > 0);
  descriptors_get_new (&added, &before);
  CHECK_EQ (added.err, 0);
  CHECK_EQ (added.nr, 0);
  descriptors_free (&added);
  descriptors_free (&before);
}

static void
test_file (void)
{
  struct descriptors before, added;
  struct stat st;
  int fd;

  descriptors_get (&before);
  CHECK_EQ (before.err, 0);
  fd = open_new ();
  descriptors_get_new (&added, &before);
  CHECK_EQ (added.err, 0);
  CHECK_EQ (added.nr, 1);
  CHECK_EQ (added.list[0].fd, fd);
  CHECK (descriptor_is_file (&added.list[0]));
  CHECK_EQ (fstat (fd, &st), 0);
  CHECK_EQ (added.list[0].device, st.st_dev);
  CHECK_EQ (added.list[0].inode, st.st_ino);
  CHECK_EQ (added.list[0].rdev, st.st_rdev);
  descriptors_free (&added);
  descriptors_free (&before);
  close (fd);
}

static void
test_no_file (void)
{
  struct descriptors before, added;
  int fds[2];
  size_t i;

  descriptors_get (&before);
  CHECK_EQ (before.err, 0);
  CHECK_EQ (socketpair (AF_UNIX, SOCK_STREAM, 0, fds), 0);
  descriptors_get_new (&added, &before);
  CHECK_EQ (added.err, 0);
  CHECK_EQ (added.nr, 2);
  for (i = 0; i < added.nr; ++i)
    CHECK (!descriptor_is_file (&added.list[i]));
  descriptors_free (&added);
  descriptors_free (&before);
  close (fds[0]);
  close (fds[1]);
}

/* A number that was another file's before; and one that is not. */
static void
test_same_number (void)
{
  const int first = open_new (), kept = open_new ();
  struct descriptors before, added;
  int fd;

  descriptors_get (&before);
  CHECK_EQ (before.err, 0);
  fd = open_new ();
  CHECK_EQ (dup2 (fd, first), first);
  close (fd);
  descriptors_get_new (&added, &before);
  CHECK_EQ (added.err, 0);
  CHECK_EQ (added.nr, 1);
  CHECK_EQ (added.list[0].fd, first);
  descriptors_free (&added);
  descriptors_free (&before);
  close (first);
  close (kept);
}

int
main (void)
{
  unit_start ();
  RUN (test_none);
  RUN (test_file);
  RUN (test_no_file);
  RUN (test_same_number);
  return unit_end ();
}
