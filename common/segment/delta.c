/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading deltas.  The bitmaps are read through the file and not mapped, so
 * that a segment which is cut short meanwhile is an error, and no signal.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "segment/delta.h"
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

/* Add the first nbits bits of the bitmap at "offset" in the file, and what is
 * behind them in the last word: that is behind the point's end, of which all is
 * in the delta.
 */
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
    for (i = 0, w = done / 8; i < n / 8; ++i, ++w)
      if (words[i] != 0)
        atomic_fetch_or_explicit (&d->bits.words[w], words[i],
                                  memory_order_relaxed);
  }
  return 0;
}

/* Copy the points from d->from up to the one before "until" into list[].
 * A damaged record may be one of them, so without it nothing can be told.
 */
static int
list_points (const struct segment *s, uint64_t until, const struct delta *d,
             struct point *list, size_t *nr, struct error *e)
{
  unsigned i;

  *nr = 0;
  for (i = 0; i < CBW_NR_POINTS; ++i)
    switch (point_copy (&s->map, i, &list[*nr])) {
    case POINT_NONE:
      break;
    case POINT_DAMAGED:
      return error_set (e, EBADMSG, "%s: is corrupt: record %u of its points "
                        "makes no sense; make a full copy", s->path, i);
    case POINT_COPIED:
      if (list[*nr].id >= d->from.id && list[*nr].id < until)
        ++*nr;
    }
  return 0;
}

/* Add the bitmaps of the points in list[], and what was not there at the
 * moment of one of them.
 */
static int
add_points (const struct segment *s, const struct point *list, size_t nr,
            struct delta *d, struct error *e)
{
  const struct cbw_geometry *g = &s->map.geometry;
  uint64_t places[CBW_NR_POINTS], size = d->from.size;
  size_t i;

  if (segment_find_changed (s, places, e) == -1)
    return -1;
  for (i = 0; i < nr; ++i) {
    if (places[list[i].index] == 0)
      return error_set (e, EBADMSG, "%s: is corrupt: there is no changed "
                        "bitmap of point \"%s\"; make a full copy", s->path,
                        list[i].name);
    if (add_bitmap (s, places[list[i].index],                       /* L3 */
                    min_u64 (layout_clusters (g, list[i].size), d->bits.nbits),
                    d, e) == -1)
      return -1;
    size = min_u64 (size, list[i].size);
  }
  if (size < d->size)
    bitmap_set (&d->bits, size / g->cluster_size, d->bits.nbits);
  return 0;
}

/* Is the record still the point's?  Then so is its bitmap. */
static bool
point_is_there (const struct segment *s, const struct point *p)
{
  struct point now;

  return point_copy (&s->map, p->index, &now) == POINT_COPIED &&
    now.id == p->id;
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

static int
refuse_invalid (const struct segment *s, const struct point *p,
                struct error *e)
{
  return error_set (e, ESTALE, "%s: changes since \"%s\" are not known any "
                    "more: %s; make a full copy", s->path, p->name,
                    point_reason (p->reason));
}

/* Is d->from still a point, and as valid as it was? */
static int
check_from (const struct segment *s, const struct delta *d, struct error *e)
{
  struct point now;

  if (point_copy (&s->map, d->from.index, &now) != POINT_COPIED ||
      now.id != d->from.id ||
      (now.state == CBW_POINT_MERGING && d->from.state != now.state))
    return error_set (e, ENOENT, "%s: \"%s\" was dropped just now", s->path,
                      d->from.name);
  if (now.state != d->from.state)
    return refuse_invalid (s, &now, e);
  return 0;
}

/* One try, in the steps of docs/correctness.md, section 26.  Returns 1, 0 if
 * the points have changed meanwhile, or -1 with the error set.
 */
static int
try_read (const struct segment *s, uint64_t until, struct point *list,
          struct delta *d, struct error *e)
{
  _Atomic (uint64_t) *generation =
    &map_header (&s->map)->chain_generation;
  const uint64_t before = atomic_load (generation);                 /* L1 */
  size_t nr, i;
  int r;

  /* A server that has died may have left an odd one. */
  if (before % 2 == 1 && liveness_server (s->fd))
    return 0;
  memset ((void *) d->bits.words, 0, bitmap_bytes (d->bits.nbits));
  r = list_points (s, until, d, list, &nr, e);                      /* L2 */
  if (r == 0)
    r = add_points (s, list, nr, d, e);
  atomic_thread_fence (memory_order_acquire);
  for (i = 0; i < nr; ++i)
    if (!point_is_there (s, &list[i]))
      break;
  if (check_from (s, d, e) == -1)
    return -1;
  if (i < nr || atomic_load (generation) != before)                 /* L4 */
    return 0;
  return r == -1 ? -1 : 1;
}

/* Read from d->from on, up to the point before "until". */
static int
read_delta (const struct segment *s, uint64_t until, uint64_t size,
            struct delta *d, struct error *e)
{
  const struct timespec pause = { .tv_nsec = DELTA_PAUSE };
  CLEANUP_FREE struct point *list = calloc (CBW_NR_POINTS, sizeof *list);
  unsigned tries;
  int r = 0;

  if (list == NULL)
    return error_set_errno (e, ENOMEM, "%s", s->path);
  if (allocate (s, size, d, e) == -1)
    return -1;
  for (tries = 0; tries < DELTA_TRIES && r == 0; ++tries) {
    if (tries > 0)
      nanosleep (&pause, NULL);
    r = try_read (s, until, list, d, e);
  }
  if (r == 1)
    return 0;
  if (r == 0)
    error_set (e, EAGAIN, "%s: its snapshots change all the time; try again",
               s->path);
  delta_free (d);
  return -1;
}

/* Can the ".." at "dots" be what stands between A and B?  Neither of these has
 * ".." in it, as no name of a snapshot has.
 */
static bool
is_split (const char *name, const char *dots)
{
  return dots > name && dots - name < CBW_NAME_MAX &&
    strstr (name, "..") + 1 >= dots && strstr (dots + 2, "..") == NULL;
}

/* Find A and B of a name that is split at "dots". */
static int
find_ends (const struct segment *s, const char *name, const char *dots,
           struct delta *d, struct error *e)
{
  const char *b = dots[2] ? dots + 2 : NULL;
  char a[CBW_NAME_MAX];

  memcpy (a, name, (size_t) (dots - name));
  a[dots - name] = '\0';
  if (!point_find (&s->map, a, &d->from))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint "
                      "\"%s\"", s->path, a);
  if (entry_find (&s->map, b, &d->to))
    return 0;
  if (b == NULL)
    return error_set (e, ENOENT, "%s: there is no snapshot that a delta could "
                      "end at", s->path);
  return error_set (e, ENOENT, "%s: there is no snapshot \"%.64s\"; a delta "
                    "ends at one, as its data is read there", s->path, b);
}

/* Find A and B of "A..B".  In "a...b" the third dot may be of either name. */
static int
find_names (const struct segment *s, const char *name, struct delta *d,
            struct error *e)
{
  const char *dots = strstr (name, "..");
  struct error other;
  struct delta found;
  bool any = false;
  unsigned nr = 0;

  for (; dots && dots[0] == '.' && dots[1] == '.'; ++dots) {
    if (!is_split (name, dots))
      continue;
    found = (struct delta) DELTA_INIT;
    if (find_ends (s, name, dots, &found, any ? &other : e) == 0) {
      *d = found;
      nr++;
    }
    any = true;
  }
  if (!any)
    return error_set (e, EINVAL, "%s: \"%.140s\" is no delta: that is A..B, "
                      "or A.. for one to the newest snapshot", s->path, name);
  if (nr > 1)
    return error_set (e, EINVAL, "%s: \"%s\" could be two deltas, as names "
                      "begin or end with a dot; "
                      "give them other names", s->path, name);
  return nr == 1 ? 0 : -1;
}

int
delta_find (const struct segment *s, const char *name, struct delta *d,
            struct error *e)
{
  *d = (struct delta) DELTA_INIT;
  if (find_names (s, name, d, e) == -1)
    return -1;
  if (d->to.complete)
    return error_set (e, ENOENT, "%s: backup \"%s\" is complete, and no "
                      "snapshot any more that a delta could end at", s->path,
                      d->to.name);
  if (d->to.state != CBW_SNAPSHOT_LIVE)
    return error_set (e, EIO, "%s: snapshot \"%s\" is broken, so its data "
                      "cannot be read", s->path, d->to.name);
  if (d->to.id > atomic_load (&map_header (&s->map)->confirmed_id)) /* L0 */
    return error_set (e, EAGAIN, "%s: snapshot \"%s\" is being made; try again "
                      "in a moment", s->path, d->to.name);
  if (d->from.id > d->to.id)
    return error_set (e, EINVAL, "%s: \"%s\" is newer than \"%s\"; a delta "
                      "goes from the older to the newer one", s->path,
                      d->from.name, d->to.name);
  /* A server that does not mark changes leaves points as they are. */
  if (d->from.state == CBW_POINT_VALID &&
      !(map_header (&s->map)->compat & CBW_COMPAT_TRACKED)) {
    d->from.state = CBW_POINT_INVALID;
    d->from.reason = CBW_POINT_UNTRACKED;
  }
  if (d->from.state != CBW_POINT_VALID)
    return refuse_invalid (s, &d->from, e);
  return 0;
}

int
delta_load (const struct segment *s, struct delta *d, struct error *e)
{
  return read_delta (s, d->to.id, d->to.size, d, e);
}

int
delta_read (const struct segment *s, const char *name, struct delta *d,
            struct error *e)
{
  return delta_find (s, name, d, e) == -1 ? -1 : delta_load (s, d, e);
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
  const uint64_t limit = (end - 1) / d->cluster_size + 1;
  const bool is_in = bitmap_test (&d->bits, c);

  *run = min_u64 ((is_in ? bitmap_next_clear (&d->bits, c, limit) :
                   bitmap_next_set (&d->bits, c, limit)) * d->cluster_size,
                  end);
  return is_in;
}

void
delta_free (struct delta *d)
{
  free ((void *) d->bits.words);
  d->bits.words = NULL;
}
