/* SPDX-License-Identifier: BSD-3-Clause */

/* The log of one server, which is in a file that outlives it.  Records are
 * appended under a lock; those of a server that is killed meanwhile are whole,
 * or not there.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "crash-record.h"

#define SEGMENT_MAX (UINT64_C (256) << 20)

static struct crash_log *crash_log; /* NULL: nothing is written down */
static char boot_id[4096];
static const char *segment;
static struct stat files[CRASH_FILES];
static int nr_files = 1;

/* Protects the log's end, and all about the segment. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char *mapping;  /* the server's, of the segment */
static size_t mapped;
static const unsigned char *view; /* ours, read-only */
static unsigned char *known;    /* what the log has last of each page */
static unsigned char has_page[SEGMENT_MAX / CRASH_PAGE];

unsigned
crash_chance (unsigned n)
{
  static _Thread_local unsigned state;
  struct timespec ts;

  if (state == 0) {
    clock_gettime (CLOCK_MONOTONIC, &ts);
    state = (unsigned) ts.tv_nsec | 1;
  }
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % n;
}

static void
nap_us (unsigned us)
{
  const struct timespec ts = { .tv_nsec = us * 1000l };

  nanosleep (&ts, NULL);
}

/* A moment at which the server may die.  Calls on a disk take a while, now and
 * then.
 */
static void
linger (unsigned us)
{
  if (atomic_load (&crash_log->countdown) > 0 &&
      atomic_fetch_sub (&crash_log->countdown, 1) == 1)
    kill (getpid (), SIGKILL);
  if (crash_chance (3) == 0)
    nap_us (crash_chance (us));
}

bool
crash_is_on (void)
{
  return crash_log != NULL;
}

const char *
crash_boot_id (void)
{
  return boot_id;
}

/* ---- The log ---- */

/* The lock is held.  Data: as many bytes as count, or NULL for none. */
static struct crash_record *
append (enum crash_kind kind, int file, uint64_t offset, uint64_t count,
        uint64_t of, const void *data)
{
  const uint64_t end = atomic_load (&crash_log->end);
  struct crash_record *r = (void *) ((char *) crash_log + end);
  const uint64_t size = sizeof *r + (data ? (count + 7) / 8 * 8 : 0);

  if (end + size > CRASH_LOG_SIZE) {
    fprintf (stderr, "crash-preload: the log is full\n");
    abort ();
  }
  *r = (struct crash_record) {
    .kind = kind, .file = (uint32_t) file, .size = size, .offset = offset,
    .count = count, .of = of, .nr_data = data ? count : 0
  };
  if (data)
    memcpy (r + 1, data, count);
  /* A server that is killed before this has not logged it, nor done it. */
  atomic_store (&crash_log->end, end + size);
  return r;
}

static void
end_record (struct crash_record *r)
{
  atomic_store (&r->ended, atomic_load (&crash_log->end));
}

int
crash_file_of (int fd)
{
  struct stat st, there;
  int i;

  if (crash_log == NULL || fstat (fd, &st) == -1)
    return CRASH_NO_FILE;
  for (i = 1; i < nr_files; ++i)
    if (st.st_dev == files[i].st_dev && st.st_ino == files[i].st_ino)
      return i;
  return segment && stat (segment, &there) == 0 &&
    st.st_dev == there.st_dev && st.st_ino == there.st_ino ?
    CRASH_SEGMENT : CRASH_NO_FILE;
}

/* Write down what [offset, end) holds: it is about to be changed. */
static void
append_old (int fd, int file, uint64_t of, uint64_t offset, uint64_t end,
            bool holes)
{
  static unsigned char buf[64 * 1024];
  uint64_t n, data;
  ssize_t r;
  off_t next;

  for (; offset < end; offset += n) {
    if (!holes) {
      next = lseek (fd, (off_t) offset, SEEK_DATA);
      if (next == -1 || (uint64_t) next >= end)
        return;
      offset = (uint64_t) next;
    }
    n = end - offset < sizeof buf ? end - offset : sizeof buf;
    r = pread (fd, buf, n, (off_t) offset);
    data = r > 0 ? (uint64_t) r : 0;
    memset (buf + data, 0, n - data);
    append (CRASH_OLD, file, offset, n, of, buf);
  }
}

struct crash_record *
crash_begin_change (int fd, uint64_t offset, uint64_t count,
                    bool makes_zeroes)
{
  const int file = crash_file_of (fd);
  struct crash_record *r;

  /* Changes of the segment's pages are found by looking at them. */
  if (file == CRASH_NO_FILE || file == CRASH_SEGMENT)
    return NULL;
  pthread_mutex_lock (&lock);
  r = append (CRASH_CHANGE, file, offset, count, 0, NULL);
  append_old (fd, file, (uint64_t) ((char *) r - (char *) crash_log),
              offset, offset + count, !makes_zeroes);
  pthread_mutex_unlock (&lock);
  linger (100);
  return r;
}

void
crash_end_change (struct crash_record *r)
{
  const int err = errno;

  if (r) {
    linger (100);
    end_record (r);
  }
  errno = err;
}

/* ---- The segment ---- */

/* Write down its pages that are not what the log has.  The lock is held.  The
 * file grows, and becomes no shorter while it is mapped.
 */
static void
look (void)
{
  static const unsigned char zeroes[CRASH_PAGE];
  unsigned char page[CRASH_PAGE];
  struct stat st;
  uint64_t p;

  if (view == NULL || stat (segment, &st) == -1)
    return;
  for (p = 0; p < (uint64_t) st.st_size; p += CRASH_PAGE) {
    if (!crash_is_watched (crash_log, p) ||
        (has_page[p / CRASH_PAGE] &&
         memcmp (view + p, known + p, CRASH_PAGE) == 0))
      continue;
    memcpy (page, view + p, CRASH_PAGE);
    append (CRASH_PAGE_WAS, CRASH_SEGMENT, p, CRASH_PAGE, 0,
            memcmp (page, zeroes, CRASH_PAGE) ? page : NULL);
    memcpy (known + p, page, CRASH_PAGE);
    has_page[p / CRASH_PAGE] = 1;
  }
}

/* At random moments, since the kernel may write back any page at any time. */
static void *
watch (void *unused)
{
  for (;;) {
    nap_us (50 + crash_chance (1000));
    pthread_mutex_lock (&lock);
    look ();
    pthread_mutex_unlock (&lock);
  }
  return unused;
}

static void
start_watch (void)
{
  pthread_t thread;
  sigset_t all, before;

  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, &before);
  if (pthread_create (&thread, NULL, watch, NULL) != 0)
    abort ();
  pthread_detach (thread);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
}

static void *
sys_mmap (size_t len, int prot, int flags, int fd)
{
  return (void *) syscall (SYS_mmap, NULL, len, prot, flags, fd, 0l);
}

bool
crash_in_segment (const void *address, uint64_t *offset)
{
  const unsigned char *p = address;

  if (mapping == NULL || p < mapping || p >= mapping + mapped)
    return false;
  *offset = (uint64_t) (p - mapping);
  return true;
}

void
crash_segment_mapped (void *base, size_t len, int fd)
{
  const bool first = known == NULL;

  pthread_mutex_lock (&lock);
  mapping = base;
  mapped = len;
  view = sys_mmap (SEGMENT_MAX, PROT_READ, MAP_SHARED, fd);
  if (first)
    known = sys_mmap (SEGMENT_MAX, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (view == MAP_FAILED || known == MAP_FAILED)
    abort ();
  pthread_mutex_unlock (&lock);
  if (first)
    start_watch ();
}

struct crash_record *
crash_begin_sync (int file, uint64_t offset, uint64_t count)
{
  struct crash_record *r;

  pthread_mutex_lock (&lock);
  look ();
  r = append (CRASH_SYNC, file, offset, count, 0, NULL);
  pthread_mutex_unlock (&lock);
  return r;
}

void
crash_end_sync (struct crash_record *r)
{
  linger (400);
  end_record (r);
  linger (50);
}

__attribute__ ((constructor)) static void
start (void)
{
  const char *dir = getenv ("CBW_CRASH_DIR");
  const char *list = getenv ("CBW_CRASH_FILES");
  char path[4096];
  size_t len;
  int fd;
  void *p;

  if (dir == NULL || list == NULL)
    return;
  snprintf (path, sizeof path, "%s/log", dir);
  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd == -1)
    return;
  p = sys_mmap (CRASH_LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  close (fd);
  if (p == MAP_FAILED)
    return;
  snprintf (boot_id, sizeof boot_id, "%s/boot_id", dir);
  segment = getenv ("CBW_CRASH_SEGMENT");
  for (; *list && nr_files < CRASH_FILES; list += len + (list[len] == ':')) {
    len = strcspn (list, ":");
    snprintf (path, sizeof path, "%.*s", (int) len, list);
    stat (path, &files[nr_files++]);
  }
  crash_log = p;
}
