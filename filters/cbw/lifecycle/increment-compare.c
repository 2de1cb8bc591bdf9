/* SPDX-License-Identifier: BSD-3-Clause */

/* Comparing an export with the disk: see increment-compare.h.
 *
 * A cluster is compared only if it has not changed between the point and now,
 * after it was read: then the disk still has what it had at the point.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lifecycle/increment-compare.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* How many clusters are compared of those that an older point has otherwise, and
 * of all.
 */
#define COMPARE_RECENT 256
#define COMPARE_ALL 64

struct comparison {
  struct engine *engine;
  const struct snapshot *snap;
  const struct points_entry *point;
  const struct bitmap *changed; /* up to the backup */
  unsigned char *disk, *image;  /* a cluster each */
};

int
increment_changes (struct engine *engine, const struct snapshot *snap,
                   const struct points_entry *from, uint64_t to,
                   uint64_t size, struct bitmap *bits, struct error *e)
{
  int r;

  bits->nbits = snapshot_clusters (snap);
  bits->words = calloc (1, bitmap_bytes (bits->nbits) + 8);
  if (bits->words == NULL)
    return error_set_errno (e, ENOMEM, "backup \"%s\"", snap->fixed.name);
  LOCK_FOR_SCOPE (&engine->control);
  r = points_changes (&engine->points, from->id, to, size, bits);
  return r == 0 ? 0 :
    error_set (e, r, "\"%s\", from which changes are counted, was dropped just "
               "now; make a full backup", from->name);
}

/* Counts it in *same if it says something. */
static int
compare_cluster (const struct comparison *c, uint64_t cluster, unsigned *same,
                 struct error *e)
{
  struct image *disk = &c->engine->source.image, *image = c->snap->target;
  const uint64_t offset = cluster * c->snap->view.cluster_size;
  const uint64_t n = snapshot_bytes (c->snap, cluster, cluster + 1);

  if (disk->ops->pread (disk, c->disk, n, offset, e) == -1 ||
      image->ops->pread (image, c->image, n, offset, e) == -1)
    return -1;
  if (memcmp (c->disk, c->image, n) == 0) {
    ++*same;
    return 0;
  }
  if (points_has_changed (&c->engine->points, c->snap->view.id, cluster))
    return 0;
  return error_set (e, EINVAL, "%s: does not hold the image of \"%s\": at "
                    "offset %" PRIu64 " it differs from the disk, which has "
                    "not changed there; make a full backup into an empty one, "
                    "or if you are sure, use --force", c->snap->fixed.target,
                    c->point->name, offset);
}

/* Where the disk's data begins from the cluster on; a hint. */
static uint64_t
next_data (const struct comparison *c, uint64_t cluster, uint64_t end)
{
  struct image *disk = &c->engine->source.image;
  const uint64_t cs = c->snap->view.cluster_size;
  const uint64_t limit = min_u64 (end * cs, c->snap->view.size);
  uint64_t offset = cluster * cs, next;
  struct error ignored;
  bool data = false;

  for (; offset < limit; offset = next)
    if (disk->ops->extent (disk, offset, limit, &next, &data, &ignored) == -1 ||
        data)
      return offset / cs;
  return end;
}

/* The next cluster from "start" on, and before "end", to be compared: one that
 * has not changed, and is in "among", or if that is NULL has data.
 */
static uint64_t
next_cluster (const struct comparison *c, const struct bitmap *among,
              uint64_t start, uint64_t end)
{
  uint64_t found;

  for (; start < end; start = found + 1) {
    found = among ? bitmap_next_set (among, start, end) :
      next_data (c, start, end);
    if (found == end || !bitmap_test (c->changed, found))
      return found;
    if (among == NULL)          /* not a cluster at a time, which takes long */
      found = bitmap_next_clear (c->changed, found, end) - 1;
  }
  return end;
}

/* Up to "nr" clusters, all over the disk; *same is how many said something. */
static int
compare_some (const struct comparison *c, const struct bitmap *among,
              unsigned nr, unsigned *same, struct error *e)
{
  const uint64_t n = c->changed->nbits;
  uint64_t start, end, cluster;
  unsigned i;

  *same = 0;
  for (i = 0; i < nr; ++i) {
    start = n * i / nr;
    end = n * (i + 1) / nr;
    cluster = next_cluster (c, among, start, end);
    if (cluster < end && compare_cluster (c, cluster, same, e) == -1)
      return -1;
  }
  return 0;
}

/* What changed between two points. */
static int
compare_between (const struct comparison *c, const struct points_entry *from,
                 uint64_t to, unsigned *same, struct error *e)
{
  struct bitmap bits;
  int r = increment_changes (c->engine, c->snap, from, to, from->size, &bits,
                             e);

  *same = 0;
  if (r == 0)
    r = compare_some (c, &bits, COMPARE_RECENT, same, e);
  else if (e->num == ENOENT)
    r = 0;                      /* it was dropped, and says nothing */
  free ((void *) bits.words);
  return r;
}

/* What changed between the point before and this one.  If that says nothing,
 * as nothing did or all has changed again, an image of the point before would
 * do as well, and the one before that is looked at.
 */
static int
compare_recent (const struct comparison *c, struct error *e)
{
  struct points_entry before;
  uint64_t id = c->point->id;
  unsigned same = 0;

  while (same == 0 &&
         points_find_older (&c->engine->points, id, &before)) {
    if (compare_between (c, &before, id, &same, e) == -1)
      return -1;
    id = before.id;
  }
  return 0;
}

int
increment_compare (struct engine *engine, const struct snapshot *snap,
                   const struct points_entry *point,
                   const struct bitmap *changed, struct error *e)
{
  CLEANUP_FREE unsigned char *disk = malloc (snap->view.cluster_size);
  CLEANUP_FREE unsigned char *image = malloc (snap->view.cluster_size);
  const struct comparison c = {
    .engine = engine, .snap = snap, .point = point, .changed = changed,
    .disk = disk, .image = image,
  };
  unsigned same;

  if (disk == NULL || image == NULL)
    return error_set_errno (e, ENOMEM, "comparing an export");
  return compare_recent (&c, e) == -1 ? -1 :
    compare_some (&c, NULL, COMPARE_ALL, &same, e);
}
