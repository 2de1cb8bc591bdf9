/* SPDX-License-Identifier: BSD-3-Clause */

/* From the log of crash-preload.c to files as a crash of the host leaves them:
 * changes are undone, the last one first, and the segment's pages replaced by
 * older ones.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "crash-state.h"
#include "live-env.h"
#include "segment/layout.h"
#include "unit.h"
#include "utils/rounding.h"

#define SECTOR 512u
#define SECTORS_MAX (UINT64_C (1) << 22)
#define PAGES_MAX (UINT64_C (1) << 16)

static struct crash_log *
map_log (const struct crash_files *files, int flags)
{
  struct crash_log *log;
  char path[512];
  int fd;

  snprintf (path, sizeof path, "%s/log", files->dir);
  fd = open (path, flags | O_CLOEXEC, 0600);
  REQUIRE (fd >= 0 && ftruncate (fd, CRASH_LOG_SIZE) == 0, "%s: %m", path);
  log = mmap (NULL, CRASH_LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE (log != MAP_FAILED, "%s: %m", path);
  close (fd);
  return log;
}

static void
new_boot_id (const struct crash_files *files, uint64_t *seed)
{
  char path[512];
  uint64_t a = unit_random (seed), b = unit_random (seed);
  FILE *f;

  snprintf (path, sizeof path, "%s/boot_id", files->dir);
  f = fopen (path, "w");
  REQUIRE (f != NULL, "%s: %m", path);
  fprintf (f, "%08x-%04x-%04x-%04x-%012" PRIx64 "\n", (unsigned) a,
           (unsigned) (a >> 32) & 0xffff, (unsigned) (a >> 48) & 0xffff,
           (unsigned) b & 0xffff, b >> 16);
  REQUIRE (fclose (f) == 0, "%s: %m", path);
}

void
crash_boot (const struct crash_files *files, uint64_t *seed)
{
  struct crash_log *log = map_log (files, O_RDWR | O_CREAT | O_TRUNC);
  struct cbw_geometry g;

  layout_geometry (0, CBW_CLUSTER_SIZE_MIN, 0, &g);
  log->magic = CRASH_LOG_MAGIC;
  log->skip_from = g.buffers_offset;
  log->skip_to = g.snapshots_offset;
  log->skip_step = g.slot_buffer_size;
  atomic_store (&log->end, sizeof *log);
  munmap (log, CRASH_LOG_SIZE);
  new_boot_id (files, seed);
}

/* ---- The log's records ---- */

static struct crash_record *
record_at (const struct crash_log *log, uint64_t place)
{
  return (struct crash_record *) ((char *) (uintptr_t) log + place);
}

static uint64_t
place_of (const struct crash_log *log, const struct crash_record *r)
{
  return (uint64_t) ((const char *) r - (const char *) log);
}

/* From the first, with NULL, to the last; NULL: there are no more. */
static struct crash_record *
next_record (const struct crash_log *log, const struct crash_record *r)
{
  const uint64_t place = r ? place_of (log, r) + r->size : sizeof *log;

  if (place >= atomic_load (&log->end))
    return NULL;
  REQUIRE (record_at (log, place)->kind >= CRASH_CHANGE &&
           record_at (log, place)->kind <= CRASH_SYNC, "the log is damaged");
  return record_at (log, place);
}

void
crash_server_gone (const struct crash_files *files)
{
  struct crash_log *log = map_log (files, O_RDWR);
  struct crash_record *r = NULL;

  while ((r = next_record (log, r)) != NULL)
    if (r->kind == CRASH_CHANGE && atomic_load (&r->ended) == 0)
      atomic_store (&r->ended, atomic_load (&log->end));
  munmap (log, CRASH_LOG_SIZE);
}

void
crash_countdown (const struct crash_files *files, unsigned n)
{
  struct crash_log *log = map_log (files, O_RDWR);

  atomic_store (&log->countdown, (int) n);
  munmap (log, CRASH_LOG_SIZE);
}

/* When the last sync of the file that has ended began; 0: none has. */
static uint64_t
last_sync (const struct crash_log *log, unsigned file)
{
  const struct crash_record *r = NULL;
  uint64_t last = 0;

  while ((r = next_record (log, r)) != NULL)
    if (r->kind == CRASH_SYNC && r->file == file && atomic_load (&r->ended))
      last = place_of (log, r);
  return last;
}

/* ---- Luck ---- */

/* Is this change of a piece lost, if those after it are? */
static bool
is_lost (enum crash_luck luck, uint64_t *seed)
{
  switch (luck) {
  case CRASH_ALL: return true;
  case CRASH_NOTHING: return false;
  case CRASH_RARELY: return unit_random (seed) % 10 == 0;
  default: return unit_random (seed) % 2 == 0;
  }
}

/* ---- Files that are written by calls ---- */

struct undo {
  int fd;
  enum crash_luck luck;
  uint64_t *seed;
  uint64_t piece;               /* what is torn, bytes */
  uint64_t *lost;
  unsigned char *kept;          /* a bit for each sector: no older change of
                                 * it is lost */
  /* If whole changes are lost or not: the one that was looked at last. */
  const struct crash_record *whole;
  bool whole_is_lost;
};

static bool
piece_is_lost (struct undo *u, uint64_t at, const struct crash_record *change)
{
  const uint64_t sector = at / SECTOR;

  REQUIRE (sector < SECTORS_MAX, "the file is too large for this test");
  if (u->kept[sector / 8] & 1 << sector % 8)
    return false;
  if (u->piece == 0) {
    if (u->whole != change)
      u->whole_is_lost = is_lost (u->luck, u->seed);
    u->whole = change;
    if (u->whole_is_lost)
      return true;
  }
  /* A page is lost as its first sector is. */
  else if (is_lost (u->luck, u->seed))
    return true;
  u->kept[sector / 8] |= (unsigned char) (1 << sector % 8);
  return false;
}

static void
undo_piece (struct undo *u, const struct crash_record *old, uint64_t from,
            uint64_t to)
{
  const unsigned char *data = (const unsigned char *) (old + 1) +
    (from - old->offset);
  unsigned char now[CRASH_PAGE];
  const size_t n = to - from;

  REQUIRE (pread (u->fd, now, n, (off_t) from) == (ssize_t) n,
           "reading the disk: %m");
  if (memcmp (now, data, n) == 0)
    return;
  REQUIRE (pwrite (u->fd, data, n, (off_t) from) == (ssize_t) n,
           "writing the disk: %m");
  (*u->lost)++;
}

/* Sector by sector, as another change may keep one that is in its page. */
static void
undo_old (struct undo *u, const struct crash_record *old,
          const struct crash_record *change)
{
  uint64_t at, next, end = old->offset + old->count;
  uint64_t page = UINT64_MAX;
  bool lost = false;

  for (at = old->offset; at < end; at = next) {
    next = min_u64 (round_down (at, SECTOR) + SECTOR, end);
    if (u->piece != CRASH_PAGE || at / CRASH_PAGE != page)
      lost = piece_is_lost (u, at, change);
    else if (lost)
      lost = !(u->kept[at / SECTOR / 8] & 1 << at / SECTOR % 8);
    if (!lost)
      u->kept[at / SECTOR / 8] |= (unsigned char) (1 << at / SECTOR % 8);
    page = at / CRASH_PAGE;
    if (lost)
      undo_piece (u, old, at, next);
  }
}

/* All OLD records of the file whose change can be lost, the last one first. */
static void
undo_file (const struct crash_log *log, unsigned file, struct undo *u)
{
  const uint64_t stable = last_sync (log, file);
  const struct crash_record *r = NULL, *change;
  const struct crash_record **list = NULL;
  size_t nr = 0;
  uint64_t ended;

  while ((r = next_record (log, r)) != NULL) {
    if (r->kind != CRASH_OLD || r->file != file)
      continue;
    change = record_at (log, r->of);
    ended = atomic_load (&change->ended);
    if (ended != 0 && ended <= stable)
      continue;
    if (nr % 1024 == 0) {
      list = realloc (list, (nr + 1024) * sizeof *list);
      CHECK (list != NULL);
    }
    list[nr++] = r;
  }
  while (nr > 0) {
    nr--;
    undo_old (u, list[nr], record_at (log, list[nr]->of));
  }
  free (list);
}

static void
lose_changes (const struct crash_log *log, unsigned file, const char *path,
              struct undo *u)
{
  static const uint64_t pieces[] = { 0, SECTOR, CRASH_PAGE };
  struct timespec times[2];
  struct stat st;

  u->piece = pieces[unit_random (u->seed) % 3];
  u->fd = open (path, O_RDWR | O_CLOEXEC);
  REQUIRE (u->fd >= 0 && fstat (u->fd, &st) == 0, "%s: %m", path);
  u->kept = calloc (1, SECTORS_MAX / 8);
  CHECK (u->kept != NULL);
  undo_file (log, file, u);
  free (u->kept);
  times[0] = st.st_atim;
  times[1] = st.st_mtim;
  REQUIRE (futimens (u->fd, times) == 0, "%s: %m", path);
  close (u->fd);
}

/* ---- The segment ---- */

/* One of what the page may be, oldest first; NULL: it stays what it is. */
static const struct crash_record *
choose_page (const struct crash_record **versions, size_t nr,
             enum crash_luck luck, uint64_t *seed)
{
  if (nr == 0 || !is_lost (luck, seed))
    return NULL;
  return versions[is_lost (luck, seed) ? 0 : unit_random (seed) % nr];
}

struct page {
  /* What it was at its last sync, and since then. */
  const struct crash_record **versions;
  size_t nr;
};

static void
add_version (struct page *p, const struct crash_record *r)
{
  if (p->nr % 16 == 0) {
    p->versions = realloc (p->versions, (p->nr + 16) * sizeof *p->versions);
    CHECK (p->versions != NULL);
  }
  p->versions[p->nr++] = r;
}

/* A sync leaves the version that was the last one when it began. */
static void
collect_pages (const struct crash_log *log, struct page *pages, uint64_t nr)
{
  const struct crash_record *r = NULL;
  uint64_t i;

  while ((r = next_record (log, r)) != NULL) {
    if (r->file != CRASH_SEGMENT)
      continue;
    if (r->kind == CRASH_PAGE_WAS && r->offset / CRASH_PAGE < nr)
      add_version (&pages[r->offset / CRASH_PAGE], r);
    else if (r->kind == CRASH_SYNC && atomic_load (&r->ended))
      for (i = r->offset / CRASH_PAGE;
           i < nr && i * CRASH_PAGE < r->offset + r->count; ++i)
        if (pages[i].nr > 0) {
          pages[i].versions[0] = pages[i].versions[pages[i].nr - 1];
          pages[i].nr = 1;
        }
  }
}

static void
put_page (int fd, uint64_t i, const struct crash_record *version,
          struct crash_lost *lost)
{
  static const unsigned char zeroes[CRASH_PAGE];
  unsigned char now[CRASH_PAGE];
  const void *data = version->nr_data ? (const void *) (version + 1) : zeroes;

  REQUIRE (pread (fd, now, CRASH_PAGE, (off_t) (i * CRASH_PAGE)) == CRASH_PAGE,
           "reading the segment: %m");
  if (memcmp (now, data, CRASH_PAGE) == 0)
    return;
  REQUIRE (pwrite (fd, data, CRASH_PAGE, (off_t) (i * CRASH_PAGE)) ==
           CRASH_PAGE, "writing the segment: %m");
  lost->pages++;
}

static void
lose_pages (const struct crash_log *log, const char *path,
            enum crash_luck luck, uint64_t *seed, struct crash_lost *lost)
{
  const int fd = open (path, O_RDWR | O_CLOEXEC);
  const struct crash_record *version;
  struct page *pages;
  struct stat st;
  uint64_t i, nr;

  if (fd == -1 && errno == ENOENT) /* no server has made it */
    return;
  REQUIRE (fd >= 0 && fstat (fd, &st) == 0, "%s: %m", path);
  nr = (uint64_t) st.st_size / CRASH_PAGE;
  REQUIRE (nr <= PAGES_MAX, "%s: is too large for this test", path);
  pages = calloc (nr + 1, sizeof *pages);
  CHECK (pages != NULL);
  collect_pages (log, pages, nr);
  for (i = 0; i < nr; ++i) {
    version = choose_page (pages[i].versions, pages[i].nr, luck, seed);
    if (version)
      put_page (fd, i, version, lost);
    free (pages[i].versions);
  }
  free (pages);
  close (fd);
}

void
crash_files_left (const struct crash_files *files, enum crash_luck of_files,
                  enum crash_luck of_segment, uint64_t *seed,
                  struct crash_lost *lost)
{
  struct crash_log *log = map_log (files, O_RDWR);
  struct undo u = {
    .luck = of_files, .seed = seed, .lost = &lost->sectors
  };
  unsigned i;

  REQUIRE (log->magic == CRASH_LOG_MAGIC, "there is no log");
  for (i = 1; i < CRASH_FILES && files->path[i]; ++i)
    lose_changes (log, i, files->path[i], &u);
  lose_pages (log, files->path[CRASH_SEGMENT], of_segment, seed, lost);
  munmap (log, CRASH_LOG_SIZE);
}
