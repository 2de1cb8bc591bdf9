/* SPDX-License-Identifier: BSD-3-Clause */

/* Is what crash-state.c makes of a log what a crash of the host could leave,
 * and can it be all of that?  A child of this program, into which
 * crash-preload.c is loaded, changes a file and a segment, and kills itself.
 *
 *   crash-selftest dir=DIR preload=LIBRARIES
 */

#include <config.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "crash-state.h"
#include "live-env.h"
#include "unit.h"

#define PAGES 16
#define SIZE (PAGES * CRASH_PAGE)
#define SEGMENT_PAGES 5         /* before the buffers, which are not watched */
#define SEGMENT_SIZE (SEGMENT_PAGES * CRASH_PAGE)
#define SECTORS (SIZE / 512)
#define TRIALS 400

static const char *dir;
static char disk[256], shm[256], boot[256];
static struct crash_files files;
static uint64_t seed = 1;

static void
read_all (const char *path, void *to, size_t size)
{
  const int fd = open (path, O_RDONLY);

  REQUIRE (fd >= 0 && read (fd, to, size) == (ssize_t) size, "%s: %m", path);
  close (fd);
}

static void
write_all (const char *path, const void *data, size_t size)
{
  const int fd = open (path, O_WRONLY | O_CREAT, 0600);

  REQUIRE (fd >= 0 && write (fd, data, size) == (ssize_t) size, "%s: %m",
           path);
  close (fd);
}

/* ---- The child ---- */

static void
put (int fd, char c, unsigned from, unsigned to)
{
  char data[SIZE];

  memset (data, c, sizeof data);
  CHECK (pwrite (fd, data, to - from, from) == (ssize_t) (to - from));
}

static void
work (void)
{
  const int fd = open (disk, O_RDWR), sfd = open (shm, O_RDWR);
  const int boot_fd = open ("/proc/sys/kernel/random/boot_id", O_RDONLY);
  char id[37] = "";
  char *s;

  CHECK (boot_fd >= 0 && read (boot_fd, id, 36) == 36);
  write_all (boot, id, sizeof id);
  s = mmap (NULL, SEGMENT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, sfd, 0);
  CHECK (fd >= 0 && s != MAP_FAILED);

  put (fd, 'b', 0, 2 * CRASH_PAGE);
  /* All pages are looked at while they are empty. */
  CHECK (msync (s + 3 * CRASH_PAGE, CRASH_PAGE, MS_SYNC) == 0);
  s[0] = s[CRASH_PAGE] = s[2 * CRASH_PAGE] = 1;
  CHECK (fdatasync (fd) == 0);  /* stable: b; and all is looked at */
  CHECK (msync (s, CRASH_PAGE, MS_SYNC) == 0);
  CHECK (msync (s + 2 * CRASH_PAGE, CRASH_PAGE, MS_SYNC) == 0);
  put (fd, 'c', CRASH_PAGE, 3 * CRASH_PAGE);
  put (fd, 'd', CRASH_PAGE, 2 * CRASH_PAGE);
  CHECK (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    4 * CRASH_PAGE, CRASH_PAGE) == 0);
  s[0] = s[CRASH_PAGE] = 2;
  put (fd, 'e', 6 * CRASH_PAGE + 100, 6 * CRASH_PAGE + 200);
  kill (getpid (), SIGKILL);
}

static void
run_child (char **argv, const char *preload)
{
  const pid_t pid = fork ();
  int status;

  REQUIRE (pid != -1, "fork: %m");
  if (pid == 0) {
    setenv ("CBW_CRASH_DIR", dir, 1);
    setenv ("CBW_CRASH_SEGMENT", shm, 1);
    setenv ("CBW_CRASH_FILES", disk, 1);
    setenv ("CBW_CRASH_CHILD", "1", 1);
    setenv ("LD_PRELOAD", preload, 1);
    execv ("/proc/self/exe", argv);
    _exit (127);
  }
  REQUIRE (waitpid (pid, &status, 0) == pid && WIFSIGNALED (status) &&
           WTERMSIG (status) == SIGKILL, "the child failed");
}

/* ---- What may be there ---- */

/* What a sector may begin with: the last one is what it was at the crash. */
static const char *
sector_may_be (unsigned sector)
{
  switch (sector * 512 / CRASH_PAGE) {
  case 0: return "b";
  case 1: return "bcd";
  case 2: return "ac";
  case 4: return "a0";
  default: return "a";
  }
}

static const char *const page_may_be[SEGMENT_PAGES] = {
  "12", "12", "1", "0", "0"
};

static bool seen_sector[SECTORS][256], seen_page[SEGMENT_PAGES][256];
static unsigned torn, seen_e;

static void
check_disk (const char *data, enum crash_luck luck)
{
  const char *e = data + 6 * CRASH_PAGE;
  const char *may;
  unsigned i, j;
  char c;

  for (i = 0; i < SECTORS; ++i) {
    may = sector_may_be (i);
    c = data[i * 512] ? data[i * 512] : '0';
    CHECK (strchr (may, c) != NULL);
    if (luck == CRASH_ALL)
      CHECK (c == may[0]);
    if (luck == CRASH_NOTHING)
      CHECK (c == may[strlen (may) - 1]);
    for (j = 1; j < 512; ++j)
      CHECK (data[i * 512 + j] == data[i * 512] ||
             (i == 6 * CRASH_PAGE / 512 && j >= 100 && j < 200));
    seen_sector[i][(unsigned char) c] = true;
    torn += i % 8 > 0 && data[i * 512] != data[i * 512 - 512];
  }
  CHECK (e[100] == e[199] && (e[100] == 'a' || e[100] == 'e'));
  seen_e += e[100] == 'e';
}

static void
check_segment (const char *s, enum crash_luck luck)
{
  const char *may;
  unsigned i;
  char c;

  for (i = 0; i < SEGMENT_PAGES; ++i) {
    may = page_may_be[i];
    c = (char) ('0' + s[i * CRASH_PAGE]);
    /* What was not synced at all may be as it was before. */
    CHECK (strchr (may, c) != NULL || (i == 1 && c == '0'));
    if (luck == CRASH_NOTHING)
      CHECK (c == may[strlen (may) - 1]);
    seen_page[i][(unsigned char) c] = true;
  }
}

static void
check_all_seen (void)
{
  const char *may;
  unsigned i;

  for (i = 0; i < SECTORS; ++i)
    for (may = sector_may_be (i); *may; ++may)
      CHECK (seen_sector[i][(unsigned char) *may]);
  for (i = 0; i < SEGMENT_PAGES; ++i)
    for (may = page_may_be[i]; *may; ++may)
      CHECK (seen_page[i][(unsigned char) *may]);
  CHECK (torn > 0 && seen_e > 0 && seen_e < TRIALS);
}

static void
try_crash (const char *disk_was, const char *segment_was, unsigned i)
{
  const enum crash_luck luck = i % CRASH_NR_LUCK;
  struct crash_lost lost = { .pages = 0 };
  char data[SIZE], segment[SEGMENT_SIZE];

  write_all (disk, disk_was, SIZE);
  write_all (shm, segment_was, SEGMENT_SIZE);
  crash_files_left (&files, luck, luck, &seed, &lost);
  read_all (disk, data, SIZE);
  read_all (shm, segment, SEGMENT_SIZE);
  check_disk (data, luck);
  check_segment (segment, luck);
  CHECK ((luck == CRASH_NOTHING) <= (lost.pages == 0 && lost.sectors == 0));
}

int
main (int argc, char **argv)
{
  char data[SIZE], segment[SEGMENT_SIZE] = "", id[37], id2[37];
  unsigned i;

  (void) argc;
  unit_start ();
  dir = live_arg (argv, "dir", NULL);
  snprintf (disk, sizeof disk, "%s/file", dir);
  snprintf (shm, sizeof shm, "%s/segment", dir);
  snprintf (boot, sizeof boot, "%s/boot-seen", dir);
  files = (struct crash_files) { .dir = dir, .path = { shm, disk } };
  if (getenv ("CBW_CRASH_CHILD"))
    work ();

  memset (data, 'a', sizeof data);
  write_all (disk, data, SIZE);
  write_all (shm, segment, SEGMENT_SIZE);
  crash_boot (&files, &seed);
  run_child (argv, live_arg (argv, "preload", NULL));
  read_all (disk, data, SIZE);
  read_all (shm, segment, SEGMENT_SIZE);
  for (i = 0; i < TRIALS; ++i)
    try_crash (data, segment, i);
  check_all_seen ();

  read_all (boot, id, sizeof id);
  crash_boot (&files, &seed);
  snprintf (boot, sizeof boot, "%s/boot_id", dir);
  read_all (boot, id2, sizeof id2 - 1);
  CHECK (memcmp (id, id2, 36) != 0);
  return unit_end ();
}
