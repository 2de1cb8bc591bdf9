/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading deltas.  The bitmaps are read through the file and not mapped, so
 * that a segment which is cut short meanwhile is an error, and no signal.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "segment/delta.h"
#include "segment/directory.h"
#include "segment/liveness.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* How often to begin anew when the points change meanwhile. */
#define DELTA_TRIES 200
#define DELTA_PAUSE (5 * NS_PER_MS)

/* How much of a bitmap is read at a time. */
#define DELTA_CHUNK (256 * 1024)

bool
delta_is_name (const char *name)
{
  return strstr (name, "..") != NULL;
}

/* Put bits [start, end) of the delta. */
static void
put (const struct delta *d, uint64_t start, uint64_t end)
{
  if (start < end)
    bitmap_set (&d->bits, start, end);
}

/* Add the first nbits bits of the bitmap at "offset" in the file. */
static int
add_bitmap (const struct segment *s, uint64_t offset, uint64_t nbits,
            struct delta *d, struct error *e)
{
  CLEANUP_FREE uint64_t *words = malloc (DELTA_CHUNK);
  const uint64_t bytes = bitmap_bytes (nbits);
  uint64_t done, n, w, i;
  ssize_t r;

  if (words == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  for (done = 0; done < bytes; done += n) {
    n = min_u64 (bytes - done, DELTA_CHUNK);
    r = pread (s->fd, words, n, (off_t) (offset + done));
    if (r == -1)
      return error_set_errno (e, errno, "%s: cannot read a bitmap", s->path);
    if ((uint64_t) r != n)
      return error_set (e, EBADMSG, "%s: is truncated", s->path);
    for (i = 0, w = done / 8; i < n / 8; ++i, ++w) {
      if (w == nbits / 64)      /* what is behind the last is not of it */
        words[i] &= (UINT64_C (1) << nbits % 64) - 1;
      if (words[i] != 0)
        atomic_fetch_or_explicit (&d->bits.words[w], words[i],
                                  memory_order_relaxed);
    }
  }
  return 0;
}

/* Where the changed bitmaps are, by a checked copy of the directory. */
static int
find_bitmaps (const struct segment *s, struct cbw_map *m, struct error *e)
{
  CLEANUP_FREE struct directory *dir = malloc (sizeof *dir);
  struct stat st;

  if (dir == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  if (fstat (s->fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", s->path);
  *m = s->map;
  directory_copy (m, dir);
  directory_find (dir, (uint64_t) st.st_size, m);
  return 0;
}

/* One try: the bitmaps of all points from d->from up to the one before
 * "until".
 */
static int
add_points (const struct segment *s, uint64_t until, struct delta *d,
            struct error *e)
{
  CLEANUP_FREE struct point *list = calloc (CBW_NR_POINTS, sizeof *list);
  CLEANUP_FREE struct cbw_map *m = malloc (sizeof *m);
  const struct cbw_geometry *g = &s->map.geometry;
  size_t nr, i;

  if (list == NULL || m == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  nr = point_list (&s->map, list);                                  /* L2 */
  if (find_bitmaps (s, m, e) == -1)
    return -1;
  for (i = 0; i < nr; ++i) {
    if (list[i].id < d->from.id || list[i].id >= until)
      continue;
    if (m->changed[list[i].index] == 0)
      return error_set (e, EBADMSG, "%s: is corrupt: there is no changed "
                        "bitmap of point \"%s\"", s->path, list[i].name);
    if (add_bitmap (s, m->changed[list[i].index],                   /* L3 */
                    min_u64 (layout_clusters (g, list[i].size), d->bits.nbits),
                    d, e) == -1)
      return -1;
  }
  /* What there was not at that moment. */
  put (d, min_u64 (d->from.size / g->cluster_size, d->bits.nbits),
       d->from.size < d->size ? d->bits.nbits : 0);
  return 0;
}

static bool
point_is_there (const struct segment *s, const struct point *p)
{
  struct point now;

  return point_copy (&s->map, p->index, &now) == POINT_COPIED &&
    now.id == p->id && now.state == p->state;
}

static int
allocate (const struct segment *s, uint64_t size, struct delta *d,
          struct error *e)
{
  const struct cbw_geometry *g = &s->map.geometry;

  if (!layout_has_room (g, size))
    return error_set (e, EFBIG, "%s: has no room for the changes of a disk of "
                      "%" PRIu64 " bytes", s->path, size);
  d->cluster_size = g->cluster_size;
  d->size = size;
  d->bits.nbits = layout_clusters (g, size);
  d->bits.words = calloc (1, bitmap_bytes (d->bits.nbits) + 8);
  return d->bits.words ? 0 : error_set_errno (e, ENOMEM, "%s", s->path);
}

/* Read from d->from on, up to the point before "until". */
static int
read_delta (const struct segment *s, uint64_t until, uint64_t size,
            struct delta *d, struct error *e)
{
  const struct timespec pause = { .tv_nsec = DELTA_PAUSE };
  _Atomic (uint64_t) *generation =
    &map_header (&s->map)->chain_generation;
  uint64_t before;
  unsigned tries;

  if (allocate (s, size, d, e) == -1)
    return -1;
  for (tries = 0; tries < DELTA_TRIES; ++tries) {
    if (tries > 0)
      nanosleep (&pause, NULL);
    error_set (e, EAGAIN, "%s: its snapshots change all the time; try again",
               s->path);
    before = atomic_load (generation);                              /* L1 */
    /* A server that has died may have left an odd one. */
    if (before % 2 == 1 && liveness_server (s->fd))
      continue;
    memset (d->bits.words, 0, bitmap_bytes (d->bits.nbits));
    if (add_points (s, until, d, e) == -1)
      break;
    atomic_thread_fence (memory_order_acquire);
    if (!point_is_there (s, &d->from)) {
      error_set (e, ENOENT, "%s: point \"%s\" was dropped just now", s->path,
                 d->from.name);
      break;
    }
    if (atomic_load (generation) == before)                         /* L4 */
      return 0;
  }
  delta_free (d);
  return -1;
}

/* Find A and B of "A..B".  0, or -1 with the error set. */
static int
find_ends (const struct segment *s, const char *name, struct delta *d,
           struct error *e)
{
  const char *dots = strstr (name, ".."), *b;
  char a[CBW_NAME_MAX];

  if (dots == NULL || dots == name || dots - name >= CBW_NAME_MAX)
    return error_set (e, EINVAL, "\"%.128s\" is no delta: that is A..B, or "
                      "A.. for one to the newest snapshot", name);
  memcpy (a, name, (size_t) (dots - name));
  a[dots - name] = '\0';
  b = dots[2] ? dots + 2 : NULL;
  if (!point_find (&s->map, a, &d->from))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint "
                      "\"%s\"", s->path, a);
  if (!entry_find (&s->map, b, &d->to))
    return b ? error_set (e, ENOENT, "%s: there is no snapshot \"%.64s\"; a "
                          "delta ends at one, as its data is read there",
                          s->path, b) :
      error_set (e, ENOENT, "%s: there is no snapshot that a delta could end "
                 "at", s->path);
  if (d->to.complete)
    return error_set (e, ENOENT, "%s: backup \"%s\" is complete, and no "
                      "snapshot any more that a delta could end at", s->path,
                      d->to.name);
  if (d->to.state != CBW_SNAPSHOT_LIVE)
    return error_set (e, EIO, "%s: snapshot \"%s\" is broken, so its data "
                      "cannot be read", s->path, d->to.name);
  if (d->from.id > d->to.id)
    return error_set (e, EINVAL, "%s: \"%s\" is newer than \"%s\"; a delta goes "
                      "from the older to the newer one", s->path,
                      d->from.name, d->to.name);
  if (d->from.state != CBW_POINT_VALID)
    return error_set (e, ESTALE, "%s: changes since \"%s\" are not known any "
                      "more: %s; make a full copy", s->path, d->from.name,
                      point_reason (d->from.reason));
  return 0;
}

int
delta_read (const struct segment *s, const char *name, struct delta *d,
            struct error *e)
{
  *d = (struct delta) DELTA_INIT;
  if (find_ends (s, name, d, e) == -1)
    return -1;
  return read_delta (s, d->to.id, d->to.size, d, e);
}

int
delta_read_now (const struct segment *s, const struct point *from,
                uint64_t size, struct delta *d, struct error *e)
{
  *d = (struct delta) { .from = *from, .to.index = CBW_NR_SNAPSHOTS };
  return read_delta (s, UINT64_MAX, size, d, e);
}

uint64_t
delta_bytes (const struct delta *d)
{
  const uint64_t n = bitmap_count (&d->bits, 0, d->bits.nbits);
  const uint64_t last = d->size % d->cluster_size;

  /* The last cluster may be a part of one. */
  return n * d->cluster_size -
    (last && bitmap_test (&d->bits, d->bits.nbits - 1) ?
     d->cluster_size - last : 0);
}

bool
delta_run (const struct delta *d, uint64_t offset, uint64_t end, uint64_t *run)
{
  const uint64_t c = offset / d->cluster_size;
  const bool is_in = bitmap_test (&d->bits, c);
  uint64_t next;

  next = is_in ? bitmap_next_clear (&d->bits, c, d->bits.nbits) :
    bitmap_next_set (&d->bits, c, d->bits.nbits);
  *run = next >= end / d->cluster_size + 1 ? end :
    min_u64 (next * d->cluster_size, end);
  return is_in;
}

void
delta_free (struct delta *d)
{
  free ((void *) d->bits.words);
  d->bits.words = NULL;
}
