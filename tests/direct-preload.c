/* SPDX-License-Identifier: BSD-3-Clause */

/* To be preloaded into the plugin's server: stops or delays direct reads
 * between their steps, as the file $CBW_DIRECT_HOLD says, which is read anew
 * at each step and may be replaced at any time:
 *
 *   none
 *   delay           sleep at each step for a random time
 *   hold STEP       at that step, make the file $CBW_DIRECT_HOLD.reached, and
 *                   wait until $CBW_DIRECT_HOLD says something else
 *
 * The steps are source-before, source-after, target-before, target-after (of
 * a read), and verify-before, verify-after.  The source is $CBW_SOURCE.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void
nap_us (unsigned us)
{
  const struct timespec ts = {
    .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000
  };

  nanosleep (&ts, NULL);
}

/* What the file says. */
static void
look (char text[64])
{
  const char *file = getenv ("CBW_DIRECT_HOLD");
  int fd = file ? open (file, O_RDONLY | O_CLOEXEC) : -1;
  ssize_t n = fd >= 0 ? read (fd, text, 63) : 0;

  if (fd >= 0)
    close (fd);
  text[n > 0 ? n : 0] = '\0';
  text[strcspn (text, "\n")] = '\0';
}

/* Mostly short, sometimes long enough for a snapshot to come and go. */
static void
delay (void)
{
  static _Thread_local unsigned seed;
  unsigned dice;

  if (seed == 0)
    seed = (unsigned) gettid ();
  dice = (unsigned) rand_r (&seed) % 1000;
  if (dice < 5)
    nap_us (100000 + dice * 50000);
  else if (dice < 300)
    nap_us (dice * 3);
}

static void
step (const char *name)
{
  char text[64], reached[4096];
  int fd;

  look (text);
  if (strcmp (text, "delay") == 0)
    delay ();
  if (strncmp (text, "hold ", 5) != 0 || strcmp (text + 5, name) != 0)
    return;
  snprintf (reached, sizeof reached, "%s.reached",
            getenv ("CBW_DIRECT_HOLD"));
  fd = open (reached, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0)
    close (fd);
  do {
    nap_us (5000);
    look (text);
  } while (strncmp (text, "hold ", 5) == 0 && strcmp (text + 5, name) == 0);
}

static bool
is_source (int fd)
{
  const char *source = getenv ("CBW_SOURCE");
  char link[64], path[4096];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  if (n < 0 || source == NULL)
    return false;
  path[n] = '\0';
  return strcmp (path, source) == 0;
}

ssize_t
pread (int fd, void *buf, size_t count, off_t offset)
{
  static ssize_t (*real) (int, void *, size_t, off_t);
  const bool source = is_source (fd);
  ssize_t r;

  if (real == NULL)
    real = (ssize_t (*) (int, void *, size_t, off_t))
      dlsym (RTLD_NEXT, "pread");
  step (source ? "source-before" : "target-before");
  r = real (fd, buf, count, offset);
  step (source ? "source-after" : "target-after");
  return r;
}

ssize_t
pread64 (int fd, void *buf, size_t count, off_t offset)
{
  return pread (fd, buf, count, offset);
}

int
sync_file_range (int fd, off64_t offset, off64_t count, unsigned flags)
{
  static int (*real) (int, off64_t, off64_t, unsigned);
  int r;

  if (real == NULL)
    real = (int (*) (int, off64_t, off64_t, unsigned))
      dlsym (RTLD_NEXT, "sync_file_range");
  step ("verify-before");
  r = real (fd, offset, count, flags);
  step ("verify-after");
  return r;
}
