/* SPDX-License-Identifier: BSD-3-Clause */

/* The extents of a snapshot, from the source's and the targets'.  Service
 * threads call this.  The order of its steps is that of a read (view.c).
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "snapshot/walk.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"
#include "view/view-steps.h"
#include "view/view.h"

/* How far the last extent may go beyond what was asked for.  It saves the
 * client questions, and the source the search for its end: on some file
 * systems that takes as long as the extent.
 */
#define EXTENTS_BEYOND (UINT64_C (64) << 30)

/* Extents being put together: neighbours of one type become one. */
struct list {
  struct cbw_extent *extents;
  uint32_t nr;
  uint64_t total;               /* bytes that they cover */
  uint64_t enough;              /* from here on only the last may grow */
};

/* False if there is no room, or no need. */
static bool
list_add (struct list *l, uint64_t length, uint32_t type)
{
  if (l->nr > 0 && l->extents[l->nr - 1].type == type)
    l->extents[l->nr - 1].length += length;
  else if (l->nr == CBW_EXTENTS_MAX || l->total >= l->enough)
    return false;
  else
    l->extents[l->nr++] = (struct cbw_extent) {
      .length = length, .type = type
    };
  l->total += length;
  return true;
}

/* Add what the target says of one part. */
static int
list_add_target (struct list *l, struct image *target, uint64_t from,
                 uint64_t to, bool *full)
{
  struct error error;
  uint64_t next;
  bool data;

  for (; from < to && !*full; from = next) {
    if (target->ops->extent (target, from, to, &next, &data, &error) == -1)
      return EIO;
    *full = !list_add (l, next - from,
                       data ? 0 : CBW_EXTENT_HOLE | CBW_EXTENT_ZERO);
  }
  return 0;
}

/* Add what the source said of one part.  *cursor walks through its
 * extents with the parts; beyond the last, nothing is known.
 */
static void
list_add_source (struct list *l, const struct image_extent *from_source,
                 size_t nr, size_t *cursor, uint64_t from, uint64_t to,
                 bool *full)
{
  const struct image_extent *x;
  uint64_t next;

  for (; from < to && !*full; from = next) {
    if (from_source == NULL) {
      *full = !list_add (l, to - from, 0);
      return;
    }
    for (x = from_source + *cursor; *cursor < nr &&
           x->offset + x->length <= from; ++x, ++*cursor)
      ;
    if (*cursor == nr) {
      *full = true;
      return;
    }
    next = min_u64 (x->offset + x->length, to);
    *full = !list_add (l, next - from, x->type);
  }
}

/* How many clusters of the range may be read. */
static uint64_t
count_accessible (const struct snapshot *snap, uint64_t count,
                  uint64_t offset)
{
  const uint64_t end = (offset + count + snap->cluster_size - 1) /
    snap->cluster_size;
  uint64_t c = offset / snap->cluster_size, stop, n = 0;

  for (; c < end; c = stop) {
    c = bitmap_next_set (&snap->access, c, end);
    stop = bitmap_next_clear (&snap->access, c, end);
    n += stop - c;
  }
  return n;
}

/* One try; -1, which is no errno, if something was discarded meanwhile. */
static int
try_extents (struct engine *e, struct image *source, uint64_t id,
             uint64_t count, uint64_t offset, uint64_t beyond,
             bool can_extents, struct cbw_extent *extents, uint32_t *nr)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  CLEANUP_FREE struct image_extent *from_source = NULL;
  struct list l = { .extents = extents, .enough = count };
  size_t k, nr_source = 0, cursor = 0;
  struct error error;
  struct walk w;
  uint64_t from, to, limit, certain, accessible;
  bool full = false;
  int r;

  *nr = 0;
  r = view_begin (e, id, count, offset, &before, &k);
  if (r != 0)
    return r;
  limit = offset + min_u64 (before->snaps[k]->size - offset, count + beyond);
  if (can_extents &&
      walk_source_hull (before, k, offset, offset + count, &from, &to)) {
    from_source = malloc (CBW_EXTENTS_MAX * sizeof *from_source);
    if (from_source == NULL)
      return ENOMEM;
    if (image_extents (source, from, to, limit, from_source,        /* R1 */
                       CBW_EXTENTS_MAX, &nr_source, &error) == -1)
      return error.num;
  }
  r = view_again (e, id, &after, &k);                               /* R2 */
  if (r != 0)
    return r;
  /* A guest writes there what was there already, and might fail: then the
   * source may have holes where there was data.
   */
  certain = copy_first_uncertain (&e->copier, offset, limit - offset); /* RS */
  if (certain > offset)
    limit = certain;            /* the client asks for the rest */
  else if (from_source) {
    free (from_source);
    from_source = NULL;
    limit = offset + min_u64 (count, after->snaps[k]->cluster_size);
  }

  accessible = count_accessible (after->snaps[k], limit - offset, offset);
  walk_start (&w, after, k, source, offset, limit);                 /* R3 */
  while (!full && walk_next (&w)) {
    if (!w.accessible)
      full = !list_add (&l, w.to - w.from, CBW_EXTENT_HOLE);
    else if (walk_in_source (&w))
      list_add_source (&l, from_source, nr_source, &cursor, w.from, w.to,
                       &full);
    else {
      r = list_add_target (&l, w.image, w.from, w.to, &full);         /* R4 */
      if (r != 0)
        return r;
    }
  }
  *nr = l.nr;
  r = view_end (after, k);                                          /* R5 */
  if (r == 0 &&
      count_accessible (after->snaps[k], limit - offset, offset) != /* R6 */
      accessible)
    return -1;
  return r;
}

int
view_extents (struct engine *e, struct image *source, uint64_t id,
              uint64_t count, uint64_t offset, bool can_extents,
              struct cbw_extent *extents, uint32_t *nr)
{
  uint64_t beyond = EXTENTS_BEYOND;
  int r;

  /* What a discard punches would look like zeroes.  Less each time, so
   * that it ends: one cluster can be discarded but once.
   */
  while ((r = try_extents (e, source, id, count, offset, beyond, can_extents,
                           extents, nr)) == -1) {
    count = max_u64 (count / 2, 1);
    beyond = 0;
  }
  return r;
}
