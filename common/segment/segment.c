/* SPDX-License-Identifier: BSD-3-Clause */

/* A segment as its clients map it, and what server and clients ask of it
 * alike: where it is, and what holds it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "segment/directory.h"
#include "segment/segment-file.h"
#include "segment/segment.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC 0x858458f6
#endif

char *
segment_path (const char *name, struct error *e)
{
  char *path;

  if (name[0] == '\0' || strcmp (name, ".") == 0 || strcmp (name, "..") == 0) {
    error_set (e, EINVAL, "\"%s\" is not a name for a segment", name);
    return NULL;
  }
  if (asprintf (&path, "%s%s", strchr (name, '/') ? "" : "/dev/shm/",
                name) == -1) {
    error_set_errno (e, ENOMEM, "%s", name);
    return NULL;
  }
  return path;
}

void
segment_boot_id (uint8_t id[16])
{
  CLEANUP_CLOSE int fd = -1;
  char text[64] = "";
  const char *p = text;
  unsigned i;

  memset (id, 0, 16);
  fd = open ("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd == -1 || read (fd, text, sizeof text - 1) < 36)
    return;
  for (i = 0; i < 16; ++i) {
    while (*p == '-')
      p++;
    if (sscanf (p, "%2hhx", &id[i]) != 1)
      return;
    p += 2;
  }
}

bool
segment_has_bitmaps (const struct segment *s, unsigned i, unsigned nr)
{
  const uint64_t *bitmaps = s->map.bitmaps[i];
  unsigned kind;

  for (kind = 0; kind < nr && bitmaps[kind] != 0; ++kind)
    ;
  return kind == nr;
}

bool
segment_find_bitmaps (struct segment *s, unsigned i, unsigned nr)
{
  CLEANUP_FREE struct directory *d = malloc (sizeof *d);
  struct stat st;

  if (d == NULL || fstat (s->fd, &st) == -1)
    return false;
  memset (s->map.bitmaps, 0, sizeof s->map.bitmaps);
  memset (s->map.changed, 0, sizeof s->map.changed);
  s->map.hot = 0;
  directory_copy (&s->map, d);
  directory_find (d, min_u64 ((uint64_t) st.st_size, s->mapped), &s->map);
  return segment_has_bitmaps (s, i, nr);
}

int
segment_find_changed (const struct segment *s, uint64_t places[CBW_NR_POINTS],
                      struct error *e)
{
  CLEANUP_FREE struct directory *d = malloc (sizeof *d);
  CLEANUP_FREE struct cbw_map *m = malloc (sizeof *m);
  struct stat st;

  if (d == NULL || m == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  if (fstat (s->fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", s->path);
  *m = s->map;
  directory_copy (m, d);
  directory_find (d, (uint64_t) st.st_size, m);
  memcpy (places, m->changed, sizeof m->changed);
  return 0;
}

size_t
segment_mapping (const struct cbw_geometry *g, uint64_t file_size)
{
  return file_size +
    (CBW_NR_SNAPSHOTS * CBW_BACKUP_BITMAPS + CBW_NR_POINTS) * g->bitmap_size +
    layout_hot_size (g);
}

static bool
is_memory (const struct statfs *fs)
{
  return fs->f_type == TMPFS_MAGIC || fs->f_type == RAMFS_MAGIC;
}

bool
segment_is_volatile (const struct segment *s)
{
  struct statfs fs;

  return fstatfs (s->fd, &fs) == 0 && is_memory (&fs);
}

bool
segment_path_is_volatile (const char *path)
{
  CLEANUP_FREE char *dir = strdup (path);
  struct statfs fs;

  if (dir == NULL || strrchr (dir, '/') == NULL)
    return false;
  strrchr (dir, '/')[1] = '\0';
  return statfs (dir, &fs) == 0 && is_memory (&fs);
}

/* Open a segment that was made before, of *size bytes, and check its header.
 * "no_file" is the error if there is none.
 */
static int
open_existing (struct segment *s, const char *path, int flags,
               enum segment_owner owner, int no_file, struct cbw_header *h,
               uint64_t *size, struct error *e)
{
  s->path = strdup (path);
  if (s->path == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  s->fd = segment_file_open (path, flags, e);
  if (s->fd == -1 && e->num == ENOENT)
    return error_set (e, no_file, "%s: there is no such segment; "
                      "start nbdkit --filter=cbw with cbw-shm=%s", path, path);
  if (s->fd == -1 ||
      segment_file_check (s->fd, path, owner, h, size, e) == -1)
    return -1;
  if (layout_is_unfinished (h, *size))
    return error_set (e, EAGAIN, "%s: its server has not finished making it",
                      path);
  return 0;
}

static int
map_existing (struct segment *s, const struct cbw_header *h, uint64_t size,
              struct error *e)
{
  void *base = mmap (NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                     s->fd, 0);

  if (base == MAP_FAILED)
    return error_set_errno (e, errno, "%s: cannot map", s->path);
  s->mapped = size;
  s->map.base = base;
  s->map.geometry = h->geometry;
  return 0;
}

static int
attach (struct segment *s, const char *path, enum segment_owner owner,
        struct error *e)
{
  struct cbw_header h;
  const struct cbw_geometry *g = &h.geometry;
  uint64_t size;

  if (open_existing (s, path, O_RDWR, owner, EAGAIN, &h, &size, e) == -1 ||
      map_existing (s, &h, g->inflight_offset, e) == -1)
    goto fail;
  if (mprotect (s->map.base + g->doorbell_offset,
                g->snapshots_offset - g->doorbell_offset,
                PROT_READ | PROT_WRITE) == -1) {
    error_set_errno (e, errno, "%s: cannot map for writing", path);
    goto fail;
  }
  return 0;

 fail:
  segment_close (s, false);
  return -1;
}

int
segment_attach (struct segment *s, const char *path, struct error *e)
{
  return attach (s, path, SEGMENT_OURS, e);
}

int
segment_try_attach (struct segment *s, const char *path, struct error *e)
{
  return attach (s, path, SEGMENT_OURS_OR_ROOT_ASKS, e);
}

int
segment_look (struct segment *s, const char *path, struct error *e)
{
  struct cbw_header h;
  uint64_t size;

  if (open_existing (s, path, O_RDONLY, SEGMENT_OURS_OR_ROOT_ASKS, ENOENT, &h,
                     &size, e) == 0 &&
      map_existing (s, &h, segment_mapping (&h.geometry, size), e) == 0)
    return 0;
  segment_close (s, false);
  return -1;
}

void
segment_close (struct segment *s, bool discard)
{
  if (discard && s->fd >= 0)
    unlink (s->path);
  if (s->mapped)
    munmap (s->map.base, s->mapped);
  if (s->fd >= 0)
    close (s->fd);
  free (s->directory);
  free (s->path);
  *s = (struct segment) SEGMENT_INIT;
}
