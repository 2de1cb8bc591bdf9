/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "liveness.h"
#include "segment.h"
#include "slots.h"

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

/* Read what there is of the header; the rest is zeroes. */
static int
read_header (int fd, const char *path, struct cbw_header *h,
             uint64_t *file_size, struct error *e)
{
  struct stat st;

  memset (h, 0, sizeof *h);
  if (fstat (fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", path);
  if (!S_ISREG (st.st_mode))
    return error_set (e, EINVAL, "%s: a segment must be a regular file", path);
  if (pread (fd, h, sizeof *h, 0) == -1)
    return error_set_errno (e, errno, "%s: cannot read", path);
  *file_size = (uint64_t) st.st_size;
  return 0;
}

static int
error_busy (const char *path, const struct cbw_header *h, struct error *e)
{
  return error_set (e, EBUSY, "%s: is being served by process %" PRIu32
                    "; stop that first, or choose another segment", path,
                    h->server_pid);
}

/* Not yet a segment, but ours.  A file without a whole header is not: its
 * maker writes that in one go, so it was truncated.
 */
static bool
is_blank (const struct cbw_header *h, uint64_t file_size)
{
  return file_size == 0 ||
    (file_size >= sizeof *h && layout_is_unfinished (h));
}

int
segment_probe (const char *path, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  CLEANUP_FREE char *dir = NULL;
  struct cbw_header h;
  uint64_t size;

  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd == -1 && errno == ENOENT) {
    dir = strdup (path);
    if (dir == NULL)
      return error_set_errno (e, ENOMEM, "%s", path);
    strrchr (dir, '/')[1] = '\0';
    if (access (dir, W_OK | X_OK) == -1)
      return error_set_errno (e, errno, "%s: cannot make a segment in %s",
                              path, dir);
    return 0;
  }
  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open the segment", path);
  if (read_header (fd, path, &h, &size, e) == -1)
    return -1;
  if (h.magic == CBW_MAGIC && liveness_server (fd))
    return error_busy (path, &h, e);
  return is_blank (&h, size) ? 0 : layout_check (&h, size, path, e);
}

/* Make the file, up to the point where it could be published. */
static int
make_file (struct segment *s, uint64_t disk_size, uint32_t cluster_size,
           uint32_t nr_cells, struct error *e)
{
  struct cbw_header h = {
    .magic = CBW_MAGIC,
    .version = CBW_VERSION,
    .struct_sizes = CBW_STRUCT_SIZES,
  };
  uint64_t size;
  int r;

  layout_geometry (disk_size, cluster_size, nr_cells, &h.geometry);
  h.geometry_sum = layout_sum (&h.geometry, sizeof h.geometry);
  h.next_snapshot_id = 1;
  if (getrandom (h.uuid, sizeof h.uuid, 0) != sizeof h.uuid)
    return error_set_errno (e, errno, "%s: getrandom", s->path);

  if (ftruncate (s->fd, 0) == -1 ||
      pwrite (s->fd, &h, sizeof h, 0) != sizeof h)
    return error_set_errno (e, errno, "%s: cannot write", s->path);

  size = layout_file_size (&h.geometry, 0);
  r = posix_fallocate (s->fd, 0, (off_t) size);
  if (r != 0)
    return error_set_errno (e, r, "%s: cannot allocate %" PRIu64 " KiB",
                            s->path, size / 1024);
  return 0;
}

/* Open and lock the file; *size is its size, 0 if it is to be made. */
static int
open_and_lock (struct segment *s, uint64_t *size, struct error *e)
{
  struct cbw_header h;
  struct stat st;

 again:
  s->fd = open (s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (s->fd == -1)
    return error_set_errno (e, errno, "%s: cannot open the segment", s->path);
  switch (liveness_take_server (s->fd)) {
  case 1: break;
  case 0:
    if (read_header (s->fd, s->path, &h, size, e) == 0)
      error_busy (s->path, &h, e);
    return -1;
  default:
    return error_set_errno (e, errno, "%s: cannot lock", s->path);
  }
  /* Removed between open and lock, by a server that failed to start? */
  if (fstat (s->fd, &st) == 0 && st.st_nlink == 0) {
    close (s->fd);
    goto again;
  }

  if (read_header (s->fd, s->path, &h, size, e) == -1)
    return -1;
  if (is_blank (&h, *size)) {
    *size = 0;
    return 0;
  }
  return layout_check (&h, *size, s->path, e);
}

int
segment_serve (struct segment *s, const char *path, uint64_t disk_size,
               uint32_t cluster_size, uint32_t nr_cells, struct error *e)
{
  struct cbw_header h;
  uint64_t size;
  void *base;
  int r;

  s->path = strdup (path);
  if (s->path == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  if (open_and_lock (s, &size, e) == -1)
    goto fail;
  s->fresh = size == 0;
  if (s->fresh &&
      make_file (s, disk_size, cluster_size, nr_cells, e) == -1)
    goto fail;
  if (read_header (s->fd, path, &h, &size, e) == -1 ||
      layout_check (&h, size, path, e) == -1)
    goto fail;
  r = posix_fallocate (s->fd, 0, (off_t) size); /* it may be a sparse copy */
  if (r != 0) {
    error_set_errno (e, r, "%s: cannot allocate %" PRIu64 " KiB", path,
                     size / 1024);
    goto fail;
  }

  s->mapped = layout_file_size (&h.geometry, h.geometry.nr_snapshots);
  base = mmap (NULL, s->mapped, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_NORESERVE, s->fd, 0);
  if (base == MAP_FAILED) {
    s->mapped = 0;
    error_set_errno (e, errno, "%s: cannot map the segment of a disk of %"
                     PRIu64 " bytes (would larger clusters do?)", path,
                     h.geometry.disk_size);
    goto fail;
  }
  s->map.base = base;
  s->map.geometry = h.geometry;
  slots_recover (&s->map);
  return 0;

 fail:
  segment_close (s, s->fresh);
  return -1;
}

void
segment_begin (struct segment *s)
{
  struct cbw_header *h = map_header (&s->map);
  uint8_t boot_id[16];

  /* In one go, and the same as before unless the host was rebooted: who is
   * killed here must not make the next one believe that it was.
   */
  segment_boot_id (boot_id);
  memcpy (h->boot_id, boot_id, sizeof h->boot_id);
  h->clean = 0;
  if (!segment_is_volatile (s))
    msync (h, CBW_PAGE, MS_SYNC);
}

void
segment_publish (struct segment *s)
{
  struct cbw_header *h = map_header (&s->map);

  segment_begin (s);
  h->server_pid = (uint32_t) getpid ();
  h->server_start_ns = now_realtime_ns ();
  h->generation++;
  atomic_store_explicit (&h->state, CBW_SERVER_RUNNING, memory_order_release);
  if (!segment_is_volatile (s))
    msync (h, CBW_PAGE, MS_SYNC);
  slots_wake_all (&s->map);
}

bool
segment_has_bitmaps (const struct segment *s, unsigned i)
{
  struct stat st;

  return fstat (s->fd, &st) == 0 &&
    (uint64_t) st.st_size >= layout_file_size (&s->map.geometry, i + 1);
}

int
segment_allocate_bitmaps (struct segment *s, unsigned i, struct error *e)
{
  const struct cbw_geometry *g = &s->map.geometry;
  const uint64_t offset = layout_file_size (g, i);
  const bool used = segment_has_bitmaps (s, i);
  int r;

  /* Also where the file has the right length: it may be sparse there. */
  r = posix_fallocate (s->fd, (off_t) offset, (off_t) (3 * g->bitmap_size));
  if (r != 0)
    return error_set_errno (e, r, "%s: cannot allocate %" PRIu64
                            " KiB for bitmaps", s->path,
                            3 * g->bitmap_size / 1024);
  if (used)
    memset (s->map.base + offset, 0, 3 * g->bitmap_size);
  return 0;
}

void
segment_stop (struct segment *s)
{
  struct cbw_header *h = map_header (&s->map);
  struct stat st;

  if (!segment_is_volatile (s) && fstat (s->fd, &st) == 0)
    msync (h, (size_t) st.st_size, MS_SYNC);
  h->clean = 1;
  atomic_store_explicit (&h->state, CBW_SERVER_STOPPED, memory_order_release);
  if (!segment_is_volatile (s))
    msync (h, CBW_PAGE, MS_SYNC);
  ofdlock_release (s->fd, LIVENESS_SERVER_BYTE, 1);
  slots_wake_all (&s->map);
}

bool
segment_is_volatile (const struct segment *s)
{
  struct statfs fs;

  return fstatfs (s->fd, &fs) == 0 &&
    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

bool
segment_is_private (const struct segment *s)
{
  struct stat st;

  return fstat (s->fd, &st) == 0 && st.st_uid == geteuid () &&
    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Open a segment that was made before, and check its header. */
static int
open_existing (struct segment *s, const char *path, int flags, int no_file,
               struct cbw_header *h, struct error *e)
{
  uint64_t size;

  s->path = strdup (path);
  if (s->path == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  s->fd = open (path, flags | O_CLOEXEC);
  if (s->fd == -1 && errno == ENOENT)
    return error_set (e, no_file, "%s: there is no such segment; "
                      "start nbdkit --filter=cbw with cbw-shm=%s", path, path);
  if (s->fd == -1)
    return error_set_errno (e, errno, "%s: cannot open the segment", path);
  if (read_header (s->fd, path, h, &size, e) == -1)
    return -1;
  if (is_blank (h, size))
    return error_set (e, EAGAIN, "%s: its server has not finished making it",
                      path);
  return layout_check (h, size, path, e);
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

int
segment_attach (struct segment *s, const char *path, struct error *e)
{
  struct cbw_header h;
  const struct cbw_geometry *g = &h.geometry;

  if (open_existing (s, path, O_RDWR, EAGAIN, &h, e) == -1 ||
      map_existing (s, &h, g->cells_offset, e) == -1)
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
segment_look (struct segment *s, const char *path, struct error *e)
{
  struct cbw_header h;

  if (open_existing (s, path, O_RDONLY, ENOENT, &h, e) == 0 &&
      map_existing (s, &h, layout_file_size (&h.geometry,
                                             h.geometry.nr_snapshots),
                    e) == 0)
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
  free (s->path);
  *s = (struct segment) SEGMENT_INIT;
}
