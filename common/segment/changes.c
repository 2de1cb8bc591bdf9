/* SPDX-License-Identifier: BSD-3-Clause */

/* Counting what has changed since each point.
 *
 * The delta from a point to now is the union of its bitmap and those of all
 * newer points, and what the disk has grown by.  So the bitmaps are read from
 * the newest point to the oldest, a chunk of all of them at a time: "seen" is
 * the union so far, and a point counts the clusters that it adds to that.  The
 * delta from a point is what it and all newer points have counted.
 *
 * Why the bitmaps may be read while the server works is said in
 * docs/correctness.md, section 26, whose steps L1 to L4 stand here, too.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "segment/changes.h"
#include "segment/liveness.h"
#include "utils/bitmap.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* How often to begin anew when the points change meanwhile. */
#define TRIES 20
#define PAUSE (5 * NS_PER_MS)

#define CHUNK_BYTES (64 * 1024)
#define CHUNK_WORDS (CHUNK_BYTES / 8)

struct counted {
  struct point point;
  uint64_t place;               /* of its bitmap, bytes from the start */
  uint64_t next_data;           /* no bit of it is set before this place */
  uint64_t grown;               /* from this cluster on all have changed */
  uint64_t added;               /* clusters that no newer point has */
};

struct scan {
  const struct segment *s;
  uint64_t size, clusters;      /* of the disk now */
  struct counted *points;       /* oldest first */
  size_t nr;
  size_t nr_last;               /* how many deltas, from the oldest point on,
                                 * have the last cluster */
  uint64_t seen[CHUNK_WORDS], words[CHUNK_WORDS];
};

/* Bits [bit, 64) of a word. */
static uint64_t
mask_from (uint64_t bit)
{
  return bit >= 64 ? 0 : UINT64_MAX << bit;
}

/* Set the words of the chunk at bits [start, end) where all clusters from
 * "grown" on have changed, and clear those that the disk does not have.
 */
static void
add_grown (const struct scan *scan, const struct counted *p, uint64_t start,
           uint64_t *words, uint64_t nr)
{
  const uint64_t first = p->grown <= start ? 0 : (p->grown - start) / 64;
  uint64_t i, bit;

  for (i = first; i < nr; ++i) {
    bit = start + 64 * i;
    if (p->grown < bit + 64)
      words[i] |= mask_from (p->grown > bit ? p->grown - bit : 0);
    if (scan->clusters < bit + 64)
      words[i] &= ~mask_from (scan->clusters - bit);
  }
}

/* Is there nothing but zeroes in [offset, end) of the file?  Bitmaps of sparse
 * disks are holes for the most part.
 */
static bool
is_hole (const struct scan *scan, struct counted *p, uint64_t offset,
         uint64_t end)
{
  off_t r;

  if (p->next_data <= offset) {
    r = lseek (scan->s->fd, (off_t) offset, SEEK_DATA);
    p->next_data = r >= 0 ? (uint64_t) r : errno == ENXIO ? UINT64_MAX : 0;
  }
  return p->next_data >= end;
}

/* Read "nr" words of the point's bitmap. */
static int
read_words (struct scan *scan, struct counted *p, uint64_t word, uint64_t nr,
            struct error *e)
{
  const uint64_t offset = p->place + 8 * word, bytes = 8 * nr;
  ssize_t r;

  if (is_hole (scan, p, offset, offset + bytes)) {
    memset (scan->words, 0, bytes);
    return 0;
  }
  r = pread (scan->s->fd, scan->words, bytes, (off_t) offset);
  if (r == -1)
    return error_set_errno (e, errno, "%s: cannot read a bitmap",
                            scan->s->path);
  if ((uint64_t) r != bytes)
    return error_set (e, EBADMSG, "%s: is truncated", scan->s->path);
  return 0;
}

/* Count what point i adds in the "nr" words from "word" on. */
static int
count_point (struct scan *scan, size_t i, uint64_t word, uint64_t nr,
             struct error *e)
{
  const uint64_t last = scan->clusters - 1;
  struct counted *p = &scan->points[i];
  uint64_t w, new;

  if (read_words (scan, p, word, nr, e) == -1)
    return -1;
  add_grown (scan, p, 64 * word, scan->words, nr);
  for (w = 0; w < nr; ++w) {
    new = scan->words[w] & ~scan->seen[w];
    if (new == 0)
      continue;
    scan->seen[w] |= new;
    p->added += (uint64_t) __builtin_popcountll (new);
    if (word + w == last / 64 && new >> last % 64 & 1)
      scan->nr_last = i + 1;
  }
  return 0;
}

/* One pass over the bitmaps. */
static int
count (struct scan *scan, uint64_t until_ns, struct error *e)
{
  const uint64_t words = bitmap_bytes (scan->clusters) / 8;
  uint64_t word, nr;
  size_t i;

  for (word = 0; word < words; word += nr) {
    nr = min_u64 (words - word, CHUNK_WORDS);
    memset (scan->seen, 0, 8 * nr);
    for (i = scan->nr; i-- > 0;)
      if (count_point (scan, i, word, nr, e) == -1)
        return -1;
    if (until_ns && now_monotonic_ns () > until_ns)
      return error_set (e, ETIME, "%s: counting what has changed takes too "
                        "long", scan->s->path);
  }
  return 0;
}

static int
find_bitmaps (struct scan *scan, struct error *e)
{
  uint64_t places[CBW_NR_POINTS];
  struct counted *p;

  if (segment_find_changed (scan->s, places, e) == -1)
    return -1;
  for (p = scan->points; p < scan->points + scan->nr; ++p) {
    p->place = places[p->point.index];
    if (p->place == 0)
      return error_set (e, EBADMSG, "%s: is corrupt: there is no changed "
                        "bitmap of point \"%s\"; cbwctl check says more",
                        scan->s->path, p->point.name);
  }
  return 0;
}

static int
by_age (const void *a, const void *b)
{
  const struct counted *x = a, *y = b;

  return x->point.id < y->point.id ? -1 : x->point.id > y->point.id;
}

/* A damaged point may be one that counts: without it nothing can be told. */
static int
list_points (struct scan *scan, struct error *e)
{
  const uint64_t cs = scan->s->map.geometry.cluster_size;
  struct point p;
  unsigned i;

  scan->nr_last = scan->nr = 0;
  for (i = 0; i < CBW_NR_POINTS; ++i)
    switch (point_copy (&scan->s->map, i, &p)) {
    case POINT_NONE:
      break;
    case POINT_DAMAGED:
      return error_set (e, EBADMSG, "%s: is corrupt: point %u is damaged; "
                        "cbwctl check says more", scan->s->path, i);
    case POINT_COPIED:
      scan->points[scan->nr++] = (struct counted) {
        .point = p,
        .grown = p.size < scan->size ? p.size / cs : scan->clusters,
      };
    }
  qsort (scan->points, scan->nr, sizeof scan->points[0], by_age);
  return find_bitmaps (scan, e);
}

/* The result of a pass. */
static void
sum_up (const struct scan *scan, struct change *list, size_t *nr)
{
  const uint64_t cs = scan->s->map.geometry.cluster_size;
  const uint64_t tail = scan->size % cs ? cs - scan->size % cs : 0;
  uint64_t clusters = 0;
  struct change copy;
  size_t i, n = 0;

  for (i = scan->nr; i-- > 0;) {
    clusters += scan->points[i].added;
    if (scan->points[i].point.state != CBW_POINT_MERGING)
      list[n++] = (struct change) {
        .point = scan->points[i].point,
        .bytes = clusters * cs - (i < scan->nr_last ? tail : 0),
      };
  }
  *nr = n;
  for (i = 0; i < n / 2; ++i) { /* the oldest first */
    copy = list[i];
    list[i] = list[n - 1 - i];
    list[n - 1 - i] = copy;
  }
}

/* One try.  1, 0 if the points have changed meanwhile, or -1 with the error
 * set.
 */
static int
try_read (struct scan *scan, uint64_t until_ns, struct error *e)
{
  _Atomic (uint64_t) *generation =
    &map_header (&scan->s->map)->chain_generation;
  const uint64_t before = atomic_load (generation);                 /* L1 */
  int r;

  /* A server that has died may have left an odd one. */
  if (before % 2 == 1 && liveness_server (scan->s->fd))
    return 0;
  r = list_points (scan, e);                                        /* L2 */
  if (r == 0)
    r = count (scan, until_ns, e);                                  /* L3 */
  if (r == -1 && e->num == ETIME)
    return -1;
  atomic_thread_fence (memory_order_acquire);
  if (atomic_load (generation) != before)                           /* L4 */
    return 0;
  return r == 0 ? 1 : -1;
}

int
changes_read (const struct segment *s, uint64_t size, uint64_t until_ns,
              struct change *list, size_t *nr, struct error *e)
{
  CLEANUP_FREE struct counted *points = calloc (CBW_NR_POINTS, sizeof *points);
  CLEANUP_FREE struct scan *scan = malloc (sizeof *scan);
  const struct timespec pause = { .tv_nsec = PAUSE };
  unsigned tries;
  int r = 0;

  if (points == NULL || scan == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  if (!layout_has_room (&s->map.geometry, size))
    return error_set (e, EFBIG, "%s: has no room for the changes of a disk of "
                      "%" PRIu64 " bytes", s->path, size);
  scan->s = s;
  scan->size = size;
  scan->clusters = layout_clusters (&s->map.geometry, size);
  scan->points = points;
  for (tries = 0; tries < TRIES && r == 0; ++tries) {
    if (tries > 0)
      nanosleep (&pause, NULL);
    r = try_read (scan, until_ns, e);
  }
  if (r == 0)
    return error_set (e, EAGAIN, "%s: its snapshots change all the time; try "
                      "again", s->path);
  if (r == -1)
    return -1;
  sum_up (scan, list, nr);
  return 0;
}
