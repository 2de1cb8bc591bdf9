/* SPDX-License-Identifier: BSD-3-Clause */

/* To be preloaded into a server: makes writes to the file $CBW_TARGET, or
 * $CBW_TARGET.partial-N, fail, take long, or never return, as the file
 * $CBW_TARGET_FAULT says, which is read anew at each call and may be replaced
 * at any time:
 *
 *   none
 *   errno NUMBER [FROM]   fail
 *   sleep SECS [FROM]     take so long
 *   hang 0 [FROM]         not return until the file says something else
 *   torn NUMBER           put rubbish into a third of the range, and fail
 *   lost NUMBER           nothing written could be written back: the file
 *                         reads as zeroes, and the kernel tells each open
 *                         file of the error, once
 *
 * Only writes that reach past the offset FROM; and of flushes:
 *
 *   flush NUMBER          fail
 *   hang-flush            not return until the file says something else
 *
 * CBW_TARGET may be a path that another one begins with, and a dot: that is
 * meant too, as a target may be moved aside.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct fault {
  char kind[16];
  double number;
  unsigned long long from;
};

static bool
is_target (int fd)
{
  const char *target = getenv ("CBW_TARGET");
  char link[64], path[4096];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  if (n < 0 || target == NULL)
    return false;
  path[n] = '\0';
  return strncmp (path, target, strlen (target)) == 0 &&
    (path[strlen (target)] == '\0' || path[strlen (target)] == '.');
}

static struct fault
look (void)
{
  const char *file = getenv ("CBW_TARGET_FAULT");
  struct fault f = { .kind = "none" };
  char text[128];
  ssize_t n;
  int fd = file ? open (file, O_RDONLY | O_CLOEXEC) : -1;

  if (fd == -1)
    return f;
  n = read (fd, text, sizeof text - 1);
  close (fd);
  text[n > 0 ? n : 0] = '\0';
  sscanf (text, "%15s %lf %llu", f.kind, &f.number, &f.from);
  return f;
}

static void
nap (double secs)
{
  const struct timespec ts = {
    .tv_sec = (time_t) secs, .tv_nsec = (long) ((secs - (long) secs) * 1e9)
  };

  nanosleep (&ts, NULL);
}

/* For a moment, and then for good. */
static void
tear (int fd, size_t count, off_t offset)
{
  static const char rubbish[4096] = { 0x6e };
  ssize_t (*real) (int, const void *, size_t, off_t) =
    (ssize_t (*) (int, const void *, size_t, off_t))
    dlsym (RTLD_NEXT, "pwrite");
  size_t i, n;

  for (i = count / 3; i < count / 3 * 2; i += n) {
    n = count / 3 * 2 - i;
    n = n < sizeof rubbish ? n : sizeof rubbish;
    real (fd, rubbish, n, offset + (off_t) i);
  }
  nap (0.002);
}

/* 0, or the errno to fail with. */
static int
suffer (int fd, size_t count, off_t offset)
{
  struct fault f;

  if (!is_target (fd))
    return 0;
  f = look ();
  if ((unsigned long long) offset + count <= f.from)
    return 0;
  if (strcmp (f.kind, "errno") == 0)
    return (int) f.number;
  if (strcmp (f.kind, "torn") == 0) {
    tear (fd, count, offset);
    return (int) f.number;
  }
  if (strcmp (f.kind, "sleep") == 0)
    nap (f.number);
  while (strcmp (f.kind, "hang") == 0) {
    nap (0.02);
    f = look ();
  }
  return 0;
}

#define WRAP(name)                                                      \
  ssize_t                                                               \
  name (int fd, const void *buf, size_t count, off_t offset)            \
  {                                                                     \
    static ssize_t (*real) (int, const void *, size_t, off_t);          \
                                                                        \
    errno = suffer (fd, count, offset);                                 \
    if (errno)                                                          \
      return -1;                                                        \
    if (real == NULL)                                                   \
      real = (ssize_t (*) (int, const void *, size_t, off_t))           \
        dlsym (RTLD_NEXT, #name);                                       \
    return real (fd, buf, count, offset);                               \
  }

#undef pwrite
#undef pwrite64
WRAP (pwrite)
WRAP (pwrite64)

#define WRAP_READ(name)                                                 \
  ssize_t                                                               \
  name (int fd, void *buf, size_t count, off_t offset)                  \
  {                                                                     \
    static ssize_t (*real) (int, void *, size_t, off_t);                \
    ssize_t r;                                                          \
                                                                        \
    if (real == NULL)                                                   \
      real = (ssize_t (*) (int, void *, size_t, off_t))                 \
        dlsym (RTLD_NEXT, #name);                                       \
    r = real (fd, buf, count, offset);                                  \
    if (r > 0 && is_lost (fd))                                          \
      memset (buf, 0, (size_t) r);                                      \
    return r;                                                           \
  }

static bool
is_lost (int fd)
{
  return is_target (fd) && strcmp (look ().kind, "lost") == 0;
}

/* What it has not been told yet, or 0. */
static int
news (int fd)
{
  static bool told[1024];
  const bool lost = is_lost (fd);

  if (fd < 0 || fd >= 1024 ||
      __atomic_exchange_n (&told[fd], lost, __ATOMIC_SEQ_CST) || !lost)
    return 0;
  return (int) look ().number;
}

#undef pread
#undef pread64
WRAP_READ (pread)
WRAP_READ (pread64)

int
sync_file_range (int fd, off_t offset, off_t count, unsigned flags)
{
  static int (*real) (int, off_t, off_t, unsigned);

  if (real == NULL)
    real = (int (*) (int, off_t, off_t, unsigned))
      dlsym (RTLD_NEXT, "sync_file_range");
  errno = news (fd);
  return errno ? -1 : real (fd, offset, count, flags);
}

static int
suffer_flush (int fd)
{
  struct fault f;

  if (!is_target (fd))
    return 0;
  f = look ();
  if (strcmp (f.kind, "flush") == 0)
    return (int) f.number;
  while (strcmp (f.kind, "hang-flush") == 0) {
    nap (0.02);
    f = look ();
  }
  return 0;
}

#define WRAP_FLUSH(name)                                                \
  int                                                                   \
  name (int fd)                                                         \
  {                                                                     \
    static int (*real) (int);                                           \
                                                                        \
    errno = suffer_flush (fd);                                          \
    if (errno == 0)                                                     \
      errno = news (fd);                                                \
    if (errno)                                                          \
      return -1;                                                        \
    if (real == NULL)                                                   \
      real = (int (*) (int)) dlsym (RTLD_NEXT, #name);                  \
    return real (fd);                                                   \
  }

WRAP_FLUSH (fsync)
WRAP_FLUSH (fdatasync)
