/* SPDX-License-Identifier: BSD-3-Clause */

/* To be preloaded into a server: kills it at a chosen call of the C
 * library.  $CBW_FAULT is a file with two ints in it.  The first counts down
 * before and after each of the calls below; the server dies when it
 * arrives at 0.  While it is 0, or there is no such file, nothing happens.
 *
 * If the second is 1, it counts down before each mutex is locked or unlocked,
 * too: between two of these the server only changes memory, and most of that
 * is the segment.  If it is larger, the server waits there instead, now and
 * then, for so many microseconds, and other threads go first.
 *
 * No system header may declare what is wrapped here.
 */

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static _Atomic (int) *countdown;

extern int getpid (void);
extern int usleep (unsigned us);

__attribute__ ((constructor)) static void
start (void)
{
  extern int open (const char *, int, int);
  const char *file = getenv ("CBW_FAULT");
  const int fd = file ? open (file, 2 /* O_RDWR */, 0) : -1;
  void *p = mmap (NULL, 2 * sizeof (int), PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);

  if (fd >= 0 && p != MAP_FAILED)
    countdown = p;
}

static void
point (void)
{
  if (countdown && atomic_load (countdown) > 0 &&
      atomic_fetch_sub (countdown, 1) == 1)
    kill (getpid (), SIGKILL);
}

#define WRAP(type, name, params, ...)                                   \
  extern type name params;                                              \
  type                                                                  \
  name params                                                           \
  {                                                                     \
    static type (*real) params;                                         \
    type r;                                                             \
    int err;                                                            \
                                                                        \
    if (real == NULL)                                                   \
      real = (type (*) params) dlsym (RTLD_NEXT, #name);                \
    point ();                                                           \
    r = real (__VA_ARGS__);                                             \
    err = errno;                                                        \
    point ();                                                           \
    errno = err;                                                        \
    return r;                                                           \
  }

WRAP (int, open, (const char *path, int flags, int mode), path, flags, mode)
WRAP (int, open64, (const char *path, int flags, int mode), path, flags, mode)
WRAP (int, close, (int fd), fd)
WRAP (int, access, (const char *path, int mode), path, mode)
WRAP (int, lstat, (const char *path, void *st), path, st)
WRAP (int, lstat64, (const char *path, void *st), path, st)
WRAP (int, unlink, (const char *path), path)
WRAP (int, renameat2, (int from_dir, const char *from, int to_dir,
                       const char *to, unsigned flags),
      from_dir, from, to_dir, to, flags)
WRAP (int, rename, (const char *from, const char *to), from, to)
WRAP (int, ftruncate, (int fd, long size), fd, size)
WRAP (int, ftruncate64, (int fd, long size), fd, size)
WRAP (int, fallocate, (int fd, int mode, long offset, long len),
      fd, mode, offset, len)
WRAP (int, fallocate64, (int fd, int mode, long offset, long len),
      fd, mode, offset, len)
WRAP (int, posix_fallocate, (int fd, long offset, long len), fd, offset, len)
WRAP (int, posix_fallocate64, (int fd, long offset, long len),
      fd, offset, len)
WRAP (long, pwrite, (int fd, const void *buf, unsigned long count,
                     long offset), fd, buf, count, offset)
WRAP (long, pwrite64, (int fd, const void *buf, unsigned long count,
                       long offset), fd, buf, count, offset)
WRAP (int, fdatasync, (int fd), fd)
WRAP (int, fsync, (int fd), fd)
WRAP (int, fsetxattr, (int fd, const char *name, const void *value,
                       unsigned long size, int flags),
      fd, name, value, size, flags)
WRAP (int, fremovexattr, (int fd, const char *name), fd, name)

/* A thread is about to lock or unlock a mutex. */
static void
mutex_point (void)
{
  static __thread unsigned dice;
  const int how = countdown ? atomic_load (countdown + 1) : 0;

  if (how == 1)
    point ();
  if (how <= 1)
    return;
  dice = dice * 1103515245 + 12345;
  if ((dice >> 16) % 8 == 0)
    usleep ((unsigned) how);
}

#define WRAP_MUTEX(name)                                                \
  extern int name (void *mutex);                                        \
  int                                                                   \
  name (void *mutex)                                                    \
  {                                                                     \
    static int (*real) (void *mutex);                                   \
                                                                        \
    if (real == NULL)                                                   \
      real = (int (*) (void *)) dlsym (RTLD_NEXT, #name);               \
    mutex_point ();                                                     \
    return real (mutex);                                                \
  }

WRAP_MUTEX (pthread_mutex_lock)
WRAP_MUTEX (pthread_mutex_unlock)
