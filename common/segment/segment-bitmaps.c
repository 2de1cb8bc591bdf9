/* SPDX-License-Identifier: BSD-3-Clause */

/* The server's bitmaps: space for them in the file, and their records in the
 * directory.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "segment/directory.h"
#include "segment/segment-server.h"
#include "utils/cleanup.h"

int
segment_allocate (const struct segment *s, uint64_t offset, uint64_t size,
                  const char *what, struct error *e)
{
  const int r = posix_fallocate (s->fd, (off_t) offset, (off_t) size);

  return r == 0 ? 0 :
    error_set_errno (e, r, "%s: cannot allocate %" PRIu64 " KiB for %s",
                     s->path, size / 1024, what);
}


/* Have space for a bitmap at "offset", with zeroes. */
static int
clear_bitmap (struct segment *s, uint64_t offset, uint64_t size,
              struct error *e)
{
  struct stat st;

  if (fstat (s->fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", s->path);
  if (segment_allocate (s, offset, size, "bitmaps", e) == -1)
    return -1;
  if (offset < (uint64_t) st.st_size) /* what is new is clear */
    memset (s->map.base + offset, 0, size);
  return 0;
}

/* Around additions to the directory: snapshots are made side by side.  A
 * leaf.
 */
static pthread_mutex_t directory_lock = PTHREAD_MUTEX_INITIALIZER;

/* Write the directory to disk, if the segment has one.  An entry says that it
 * is complete on stable storage (snapshot_complete), and must not be found
 * there without its bitmaps after a crash of the host.
 */
static int
write_directory (struct segment *s, struct error *e)
{
  const struct cbw_geometry *g = &s->map.geometry;

  if (!segment_is_volatile (s) &&
      msync (s->map.base + g->directory_offset,
             CBW_NR_BITMAPS * sizeof (struct cbw_bitmap_record),
             MS_SYNC) == -1)
    return error_set_errno (e, errno, "%s: the bitmap directory cannot be "
                            "written back", s->path);
  s->directory_is_new = false;
  return 0;
}

/* Have a bitmap for the owner, cleared.  *known is its place, or 0.  The
 * directory's lock is held.
 */
static int
have_bitmap (struct segment *s, enum cbw_bitmap_owner owner_kind,
             unsigned owner, enum cbw_bitmap_kind kind, uint64_t known,
             struct error *e)
{
  const struct cbw_geometry *g = &s->map.geometry;
  const uint64_t size = directory_bitmap_size (kind, g);
  uint64_t offset = known;
  unsigned record;

  if (known == 0 &&
      (!directory_place (s->directory, g, kind, &record, &offset) ||
       offset > s->mapped - size))
    return error_set (e, ENOSPC, "%s: has no room for more bitmaps", s->path);
  if (clear_bitmap (s, offset, size, e) == -1)
    return -1;
  if (known == 0) {
    directory_add (s->directory, &s->map, record, owner_kind, owner, kind,
                   offset);
    s->directory_is_new = true;
  }
  return 0;
}

int
segment_allocate_bitmaps (struct segment *s, unsigned i, unsigned nr,
                          struct error *e)
{
  unsigned kind;

  LOCK_FOR_SCOPE (&directory_lock);
  for (kind = 0; kind < nr; ++kind)
    if (have_bitmap (s, CBW_OWNER_SNAPSHOT, i, kind, s->map.bitmaps[i][kind],
                     e) == -1)
      return -1;
  return s->directory_is_new ? write_directory (s, e) : 0;
}

int
segment_allocate_changed (struct segment *s, unsigned i, struct error *e)
{
  LOCK_FOR_SCOPE (&directory_lock);
  if (have_bitmap (s, CBW_OWNER_POINT, i, CBW_BITMAP_CHANGED,
                   s->map.changed[i], e) == -1)
    return -1;
  return s->directory_is_new ? write_directory (s, e) : 0;
}

int
segment_allocate_hot (struct segment *s, struct error *e)
{
  LOCK_FOR_SCOPE (&directory_lock);
  if (s->map.hot != 0)
    return 0;
  if (have_bitmap (s, CBW_OWNER_DISK, 0, CBW_BITMAP_HOT, 0, e) == -1)
    return -1;
  return write_directory (s, e);
}
