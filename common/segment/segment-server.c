/* SPDX-License-Identifier: BSD-3-Clause */

/* What only the server of a segment does: making it, taking it over, and
 * saying in it who serves it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/directory.h"
#include "segment/liveness.h"
#include "segment/segment-file.h"
#include "segment/segment-server.h"
#include "segment/slots.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

static int
error_busy (const char *path, const struct cbw_header *h, struct error *e)
{
  return error_set (e, EBUSY, "%s: is being served by process %" PRIu32
                    "; stop that first, or choose another segment", path,
                    h->server_pid);
}

/* There is no file: could one be made? */
static int
probe_directory (const char *path, struct error *e)
{
  CLEANUP_FREE char *dir = strdup (path);

  if (dir == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  strrchr (dir, '/')[1] = '\0';
  if (access (dir, W_OK | X_OK) == -1)
    return error_set_errno (e, errno, "%s: cannot make a segment in %s",
                            path, dir);
  return 0;
}

int
segment_probe (const char *path, struct error *e)
{
  CLEANUP_CLOSE int fd = segment_file_open (path, O_RDWR, e);
  struct cbw_header h;
  uint64_t size;

  if (fd == -1)
    return e->num == ENOENT ? probe_directory (path, e) : -1;
  if (segment_file_check (fd, path, SEGMENT_OURS_OR_ROOT_ASKS, &h, &size,
                          e) == -1)
    return -1;
  return liveness_server (fd) ? error_busy (path, &h, e) : 0;
}

/* Take the bitmaps that there are, in a file of "size" bytes. */
static int
take_bitmaps (struct segment *s, uint64_t size, struct error *e)
{
  struct directory *d = s->directory = malloc (sizeof *d);
  char text[DIRECTORY_TEXT_MAX];
  unsigned i;

  if (d == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  directory_copy (&s->map, d);
  for (i = 0; i < CBW_NR_BITMAPS; ++i)
    if (directory_problem (d, i, &s->map.geometry, size, text, sizeof text))
      return error_set (e, EBADMSG, "%s: is corrupt: record %u of its bitmap "
                        "directory: %s; remove the segment to start anew",
                        s->path, i, text);
  for (i = 0; i < CBW_NR_BITMAPS; ++i) /* it may be a sparse copy */
    if (atomic_load (&d->records[i].state) == CBW_BITMAP_IN_USE &&
        segment_allocate (s, d->records[i].offset, d->records[i].size, "bitmaps",
                  e) == -1)
      return -1;
  directory_find (d, size, &s->map);
  return 0;
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

  layout_geometry (disk_size, cluster_size, nr_cells, &h.geometry);
  h.geometry_sum = layout_sum (&h.geometry, sizeof h.geometry);
  h.next_snapshot_id = 1;
  if (getrandom (h.uuid, sizeof h.uuid, 0) != sizeof h.uuid)
    return error_set_errno (e, errno, "%s: getrandom", s->path);

  if (ftruncate (s->fd, 0) == -1 ||
      pwrite (s->fd, &h, sizeof h, 0) != sizeof h)
    return error_set_errno (e, errno, "%s: cannot write", s->path);

  if (ftruncate (s->fd, (off_t) layout_file_size (&h.geometry, 0)) == -1)
    return error_set_errno (e, errno, "%s: cannot write", s->path);
  return 0;
}

/* How often to open the file anew that was removed or made meanwhile. */
#define OPEN_TRIES 100

/* Make the file.  Returns 1, 0 if there is one by now, or -1 with the error
 * set.
 */
static int
create_file (struct segment *s, struct error *e)
{
  s->fd = open (s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (s->fd == -1 && errno == EEXIST)
    return 0;
  if (s->fd == -1)
    return error_set_errno (e, errno, "%s: cannot make the segment", s->path);
  if (fchmod (s->fd, 0600) == -1) /* a umask may have taken bits of it */
    return error_set_errno (e, errno, "%s: fchmod", s->path);
  return 1;
}

/* Open and lock the file, which is made if there is none.  Returns 1, 0 if
 * it was removed, or made by somebody else, at that moment, or -1 with the
 * error set.
 */
static int
try_open_and_lock (struct segment *s, struct error *e)
{
  struct cbw_header h;
  struct stat st;
  uint64_t size;
  int r;

  s->fd = segment_file_open (s->path, O_RDWR, e);
  if (s->fd == -1) {
    r = e->num == ENOENT ? create_file (s, e) : -1;
    if (r != 1)
      return r;
  }
  switch (liveness_take_server (s->fd)) {
  case 1: break;
  case 0:
    if (segment_file_check (s->fd, s->path, SEGMENT_OURS, &h, &size, e) == 0)
      error_busy (s->path, &h, e);
    return -1;
  default:
    return error_set_errno (e, errno, "%s: cannot lock", s->path);
  }
  /* Removed between open and lock, by a server that failed to start? */
  return fstat (s->fd, &st) == -1 || st.st_nlink > 0;
}

/* As try_open_and_lock, and *size is the size, 0 if it is to be made. */
static int
open_and_lock (struct segment *s, uint64_t *size, struct error *e)
{
  struct cbw_header h;
  unsigned tries;
  int r;

  for (tries = 0; (r = try_open_and_lock (s, e)) == 0; ++tries) {
    if (s->fd >= 0)
      close (s->fd);
    s->fd = -1;
    if (tries == OPEN_TRIES)
      return error_set (e, EBUSY, "%s: somebody makes and removes it again "
                        "and again; choose another segment", s->path);
  }
  if (r == -1 ||
      segment_file_check (s->fd, s->path, SEGMENT_OURS, &h, size, e) == -1)
    return -1;
  if (layout_is_unfinished (&h, *size))
    *size = 0;
  return 0;
}

int
segment_serve (struct segment *s, const char *path, uint64_t disk_size,
               uint32_t cluster_size, uint32_t nr_cells, struct error *e)
{
  struct cbw_header h;
  uint64_t size;
  void *base;

  s->path = strdup (path);
  if (s->path == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  if (open_and_lock (s, &size, e) == -1)
    goto fail;
  s->fresh = size == 0;
  if (s->fresh &&
      make_file (s, disk_size, cluster_size, nr_cells, e) == -1)
    goto fail;
  if (segment_file_header (s->fd, path, &h, &size, e) == -1 ||
      layout_check (&h, size, path, e) == -1)
    goto fail;
  /* All that this program may touch, but for the bitmaps: a store where there
   * is no space would be a SIGBUS.
   */
  if (segment_allocate (s, 0, h.geometry.bitmaps_offset, "the segment", e) == -1)
    goto fail;

  s->mapped = segment_mapping (&h.geometry, size);
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
  if (take_bitmaps (s, size, e) == -1)
    goto fail;
  return 0;

 fail:
  segment_close (s, s->fresh);
  return -1;
}

/* Write the header's page to disk, if the segment has one. */
static int
write_header (const struct segment *s)
{
  return segment_is_volatile (s) ? 0 :
    msync (map_header (&s->map), CBW_PAGE, MS_SYNC);
}

int
segment_begin (struct segment *s, struct error *e)
{
  struct cbw_header *h = map_header (&s->map);
  uint8_t boot_id[16];

  segment_boot_id (boot_id);
  /* Before the id is stored, so that a server which finds the slots finds the
   * old id, too.
   */
  if (memcmp (boot_id, h->boot_id, sizeof boot_id) != 0)
    slots_forget (&s->map);
  /* In one go, and the same as before unless the host was rebooted.  If this
   * server is killed here, the next one must not believe in a reboot.
   */
  memcpy (h->boot_id, boot_id, sizeof h->boot_id);
  h->compat &= CBW_COMPAT_KNOWN;
  h->clean = 0;
  if (write_header (s) == -1)
    return error_set_errno (e, errno, "%s: cannot be written back, so its "
                            "snapshots would not be safe if this host went "
                            "down", s->path);
  /* What the last server said of itself, for clients that do not ask. */
  atomic_store (&h->alive, 0);                                      /* A1 */
  atomic_store (&h->guests_write, 0);
  atomic_store (&h->unchanged_claims, 0);
  slots_recover (&s->map);
  return 0;
}

void
segment_publish (struct segment *s)
{
  struct cbw_header *h = map_header (&s->map);

  h->server_pid = (uint32_t) getpid ();
  h->server_start_ns = now_realtime_ns ();
  h->generation++;
  atomic_store_explicit (&h->state, CBW_SERVER_RUNNING, memory_order_release);
  write_header (s);             /* if not, that on disk is not clean, either */
  slots_wake_all (&s->map);
}

/* Make pages dirty, whatever other threads store there. */
static void
touch_pages (const struct segment *s, uint64_t start, uint64_t end)
{
  _Atomic (uint64_t) *word;
  uint64_t value;

  for (; start < end; start += CBW_PAGE) {
    word = (_Atomic (uint64_t) *) (s->map.base + start);
    value = atomic_load (word);
    atomic_compare_exchange_strong (word, &value, value);
  }
}

/* Write it to disk.  The kernel says once that it could not write something,
 * and takes the pages for written from then on.
 */
static int
sync_range (struct segment *s, uint64_t offset, uint64_t size)
{
  const struct cbw_geometry *g = &s->map.geometry;
  int err;

  if (atomic_exchange (&s->unwritten, false)) {
    touch_pages (s, 0, CBW_PAGE);
    touch_pages (s, g->snapshots_offset, g->inflight_offset);
    if (s->map.hot != 0)
      touch_pages (s, s->map.hot, s->map.hot + layout_hot_size (g));
  }
  if (msync (s->map.base + offset, size, MS_SYNC) == 0)
    return 0;
  err = errno;
  atomic_store (&s->unwritten, true);
  return err;
}

/* All that the file has: not what is mapped behind its end. */
int
segment_write_back (struct segment *s)
{
  struct stat st;

  if (segment_is_volatile (s))
    return 0;
  if (fstat (s->fd, &st) == -1)
    return errno;
  return sync_range (s, 0, min_u64 ((uint64_t) st.st_size, s->mapped));
}

int
segment_sync_hot (struct segment *s)
{
  return sync_range (s, s->map.hot, layout_hot_size (&s->map.geometry));
}

int
segment_stop (struct segment *s, struct error *e)
{
  struct cbw_header *h = map_header (&s->map);
  const int err = segment_write_back (s);
  int r = 0;

  if (err != 0)
    r = error_set_errno (e, err, "%s: cannot be written back, so its "
                         "snapshots are lost if this host goes down",
                         s->path);
  else
    h->clean = 1;
  atomic_store_explicit (&h->state, CBW_SERVER_STOPPED, memory_order_release);
  write_header (s);             /* the same */
  ofdlock_release (s->fd, LIVENESS_SERVER_BYTE, 1);
  slots_wake_all (&s->map);
  return r;
}
