/* SPDX-License-Identifier: BSD-3-Clause */

/* Open-file-description locks, on top of fcntl. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "utils/ofdlock.h"

static struct flock
make_flock (short type, uint64_t start, uint64_t len)
{
  return (struct flock) {
    .l_type = type,
    .l_whence = SEEK_SET,
    .l_start = (off_t) start,
    .l_len = (off_t) len,
  };
}

int
ofdlock_try (int fd, uint64_t start, uint64_t len)
{
  struct flock fl = make_flock (F_WRLCK, start, len);

  if (fcntl (fd, F_OFD_SETLK, &fl) == 0)
    return 1;
  return errno == EAGAIN || errno == EACCES ? 0 : -1;
}

void
ofdlock_release (int fd, uint64_t start, uint64_t len)
{
  struct flock fl = make_flock (F_UNLCK, start, len);

  fcntl (fd, F_OFD_SETLK, &fl);
}

int
ofdlock_held (int fd, uint64_t start, uint64_t len)
{
  struct flock fl = make_flock (F_WRLCK, start, len);

  if (fcntl (fd, F_OFD_GETLK, &fl) == -1)
    return -1;
  return fl.l_type != F_UNLCK;
}
