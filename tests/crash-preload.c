/* SPDX-License-Identifier: BSD-3-Clause */

/* To be preloaded into a server: writes down what a crash of the host could
 * undo (crash-log.h), and lets the host seem to be another boot.
 *
 *   CBW_CRASH_DIR       log      the log, made by crash_boot (crash-state.h)
 *                       boot_id  what the server reads as the boot's id
 *   CBW_CRASH_SEGMENT   the segment, a file that the server maps
 *   CBW_CRASH_FILES     other files that it writes, with colons between
 *
 * Calls that sync these files only say so in the log, and take a moment, as
 * they do on a disk: nothing goes to stable storage.  If the segment is
 * on a file system in memory, the server is told that it is not.
 *
 * The log is written by crash-record.c.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "crash-record.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

#define REAL(type, name, params)                                        \
  static type (*real) params;                                           \
  if (real == NULL)                                                     \
    real = (type (*) params) dlsym (RTLD_NEXT, #name)

/* ---- Changes of files ---- */

#define WRAP_PWRITE(name)                                               \
  ssize_t                                                               \
  name (int fd, const void *buf, size_t count, off_t offset)            \
  {                                                                     \
    REAL (ssize_t, name, (int, const void *, size_t, off_t));           \
    struct crash_record *change =                                       \
      crash_begin_change (fd, (uint64_t) offset, count, false);         \
    const ssize_t r = real (fd, buf, count, offset);                    \
                                                                        \
    crash_end_change (change);                                          \
    return r;                                                           \
  }

#undef pwrite
#undef pwrite64
WRAP_PWRITE (pwrite)
WRAP_PWRITE (pwrite64)

#define WRAP_PWRITEV(name)                                              \
  ssize_t                                                               \
  name (int fd, const struct iovec *v, int n, off_t offset)             \
  {                                                                     \
    REAL (ssize_t, name, (int, const struct iovec *, int, off_t));      \
    struct crash_record *change;                                        \
    size_t count = 0;                                                   \
    ssize_t r;                                                          \
    int i;                                                              \
                                                                        \
    for (i = 0; i < n; ++i)                                             \
      count += v[i].iov_len;                                            \
    change = crash_begin_change (fd, (uint64_t) offset, count, false);  \
    r = real (fd, v, n, offset);                                        \
    crash_end_change (change);                                          \
    return r;                                                           \
  }

#undef pwritev
#undef pwritev64
WRAP_PWRITEV (pwritev)
WRAP_PWRITEV (pwritev64)

#define WRAP_FALLOCATE(name)                                            \
  int                                                                   \
  name (int fd, int mode, off_t offset, off_t count)                    \
  {                                                                     \
    REAL (int, name, (int, int, off_t, off_t));                         \
    const bool zeroes =                                                 \
      mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);             \
    struct crash_record *change = zeroes ?                              \
      crash_begin_change (fd, (uint64_t) offset, (uint64_t) count,      \
                          true) : NULL;                                 \
    const int r = real (fd, mode, offset, count);                       \
                                                                        \
    crash_end_change (change);                                          \
    return r;                                                           \
  }

#undef fallocate
#undef fallocate64
WRAP_FALLOCATE (fallocate)
WRAP_FALLOCATE (fallocate64)

#define WRAP_MMAP(name)                                                 \
  void *                                                                \
  name (void *addr, size_t len, int prot, int flags, int fd, off_t offset) \
  {                                                                     \
    void *r = (void *) syscall (SYS_mmap, addr, len, prot, flags, fd,   \
                                offset);                                \
                                                                        \
    if (r != MAP_FAILED && fd >= 0 && (prot & PROT_WRITE) &&            \
        (flags & MAP_TYPE) == MAP_SHARED && offset == 0 &&              \
        crash_file_of (fd) == CRASH_SEGMENT)                            \
      crash_segment_mapped (r, len, fd);                                \
    return r;                                                           \
  }

#undef mmap
#undef mmap64
WRAP_MMAP (mmap)
WRAP_MMAP (mmap64)

/* ---- What is made stable ---- */

int
msync (void *addr, size_t len, int flags)
{
  REAL (int, msync, (void *, size_t, int));
  uint64_t offset;

  if (!crash_in_segment (addr, &offset))
    return real (addr, len, flags);
  if (!(flags & MS_SYNC))       /* it promises nothing */
    return 0;
  crash_end_sync (crash_begin_sync (CRASH_SEGMENT, offset, len));
  return 0;
}

#define WRAP_SYNC(name)                                                 \
  int                                                                   \
  name (int fd)                                                         \
  {                                                                     \
    REAL (int, name, (int));                                            \
    const int file = crash_file_of (fd);                                \
                                                                        \
    if (file == CRASH_NO_FILE)                                          \
      return real (fd);                                                 \
    crash_end_sync (crash_begin_sync (file, 0, UINT64_MAX / 2));        \
    return 0;                                                           \
  }

WRAP_SYNC (fsync)
WRAP_SYNC (fdatasync)

#define WRAP_FSTATFS(name, buffer)                                      \
  int                                                                   \
  name (int fd, struct buffer *fs)                                      \
  {                                                                     \
    REAL (int, name, (int, struct buffer *));                           \
    const int r = real (fd, fs);                                        \
                                                                        \
    if (r == 0 && fs->f_type == TMPFS_MAGIC &&                          \
        crash_file_of (fd) == CRASH_SEGMENT)                            \
      fs->f_type = EXT4_SUPER_MAGIC;                                    \
    return r;                                                           \
  }

#undef fstatfs
#undef fstatfs64
WRAP_FSTATFS (fstatfs, statfs)
WRAP_FSTATFS (fstatfs64, statfs64)

/* ---- Time ---- */

/* Threads that look at something ten times a second do it much more often, so
 * that a region can get cold in the short life of a server.  To them that is
 * a wakeup without a reason.
 */
int
pthread_cond_timedwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                        const struct timespec *until)
{
  static int (*real) (pthread_cond_t *, pthread_mutex_t *,
                      const struct timespec *);
  struct timespec now, early;
  long long ns;
  int r;

  if (real == NULL)
    *(void **) &real = dlvsym (RTLD_NEXT, "pthread_cond_timedwait",
                               "GLIBC_2.3.2");
  if (real == NULL)
    *(void **) &real = dlsym (RTLD_NEXT, "pthread_cond_timedwait");
  clock_gettime (CLOCK_MONOTONIC, &now);
  ns = (until->tv_sec - now.tv_sec) * 1000000000ll +
    until->tv_nsec - now.tv_nsec;
  if (!crash_is_on () || ns < 20000000 || ns > 150000000)
    return real (cond, mutex, until);
  early = now;
  early.tv_nsec += (1 + crash_chance (8)) * 1000000l;
  early.tv_sec += early.tv_nsec / 1000000000;
  early.tv_nsec %= 1000000000;
  r = real (cond, mutex, &early);
  return r == ETIMEDOUT ? 0 : r;
}

/* ---- The boot ---- */

#define WRAP_OPEN(name)                                                 \
  int                                                                   \
  name (const char *path, int flags, ...)                               \
  {                                                                     \
    REAL (int, name, (const char *, int, ...));                         \
    va_list args;                                                       \
    unsigned mode = 0;                                                  \
                                                                        \
    if (flags & (O_CREAT | __O_TMPFILE)) {                              \
      va_start (args, flags);                                           \
      mode = va_arg (args, unsigned);                                   \
      va_end (args);                                                    \
    }                                                                   \
    return real (crash_is_on () && strcmp (path, BOOT_ID) == 0 ?        \
                 crash_boot_id () : path, flags, mode);                 \
  }

#undef open
#undef open64
WRAP_OPEN (open)
WRAP_OPEN (open64)
