/* SPDX-License-Identifier: BSD-3-Clause */

/* The extents of a view, from the source's and the targets'.  The order of the
 * steps is that of a read (read.c).
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "view/read.h"
#include "view/walk.h"

static_assert (IMAGE_HOLE == CBW_EXTENT_HOLE && IMAGE_ZERO == CBW_EXTENT_ZERO,
               "types of extents");

/* Extents being put together: neighbours of one type become one. */
struct list {
  struct cbw_extent *extents;
  uint32_t nr;
  uint64_t total;               /* bytes that they cover */
  uint64_t enough;              /* from here on only the last may grow */
  bool full;
};

static void
list_add (struct list *l, uint64_t length, uint32_t type)
{
  if (l->nr > 0 && l->extents[l->nr - 1].type == type)
    l->extents[l->nr - 1].length += length;
  else if (l->nr == CBW_EXTENTS_MAX || l->total >= l->enough) {
    l->full = true;             /* there is no room, or no need */
    return;
  }
  else
    l->extents[l->nr++] = (struct cbw_extent) {
      .length = length, .type = type
    };
  l->total += length;
}

/* Add what the target says of one part. */
static int
list_add_target (struct list *l, struct image *target, uint64_t from,
                 uint64_t to)
{
  struct error e;
  uint64_t next;
  bool data;

  for (; from < to && !l->full; from = next) {
    if (target->ops->extent (target, from, to, &next, &data, &e) == -1)
      return EIO;
    list_add (l, next - from, data ? 0 : CBW_EXTENT_HOLE | CBW_EXTENT_ZERO);
  }
  return 0;
}

/* Add what the source has said of one part.  *cursor walks through its extents
 * with the parts; beyond the last, nothing is known.
 */
static void
list_add_source (struct list *l, const struct view_source *said,
                 size_t *cursor, uint64_t from, uint64_t to)
{
  const struct image_extent *x;
  uint64_t next;

  if (said->extents == NULL) {
    list_add (l, to - from, 0);
    return;
  }
  for (; from < to && !l->full; from = next) {
    for (x = said->extents + *cursor;
         *cursor < said->nr && x->offset + x->length <= from; ++x)
      ++*cursor;
    if (*cursor == said->nr) {
      l->full = true;
      return;
    }
    next = min_u64 (x->offset + x->length, to);
    list_add (l, next - from, x->type);
  }
}

/* How many clusters of the range may be read. */
static uint64_t
count_accessible (const struct view *view, uint64_t from, uint64_t to)
{
  const uint64_t end = (to + view->cluster_size - 1) / view->cluster_size;
  uint64_t c = from / view->cluster_size, stop, n = 0;

  for (; c < end; c = stop) {
    c = bitmap_next_set (&view->access, c, end);
    stop = bitmap_next_clear (&view->access, c, end);
    n += stop - c;
  }
  return n;
}

int
view_extents_source (const struct view_chain *chain, size_t k,
                     struct image *source, uint64_t count, uint64_t offset,
                     uint64_t limit, struct view_source *from_source)
{
  uint64_t from, to;
  struct error e;

  *from_source = (struct view_source) { .nr = 0 };
  if (!walk_source_hull (chain, k, offset, offset + count, &from, &to))
    return 0;
  from_source->extents = malloc (CBW_EXTENTS_MAX *
                                 sizeof *from_source->extents);
  if (from_source->extents == NULL)
    return ENOMEM;
  return image_extents (source, from, to, limit, from_source->extents, /* R1 */
                        CBW_EXTENTS_MAX, &from_source->nr, &e) == -1 ?
    e.num : 0;
}

int
view_extents_rest (const struct view_chain *chain, size_t k,
                   const struct view_source *from_source, uint64_t count,
                   uint64_t offset, uint64_t limit,
                   struct cbw_extent *extents, uint32_t *nr, bool *discarded)
{
  const struct view *view = chain->views[k];
  const uint64_t accessible = count_accessible (view, offset, limit);
  struct list l = { .extents = extents, .enough = count };
  size_t cursor = 0;
  uint64_t used = 0;
  struct error e;
  struct walk w;
  int r;

  walk_start (&w, chain, k, offset, limit);                         /* R3 */
  while (!l.full && walk_next (&w)) {
    if (!w.accessible)
      list_add (&l, w.to - w.from, CBW_EXTENT_HOLE);
    else if (walk_in_source (&w))
      list_add_source (&l, from_source, &cursor, w.from, w.to);
    else {
      r = list_add_target (&l, w.image, w.from, w.to);              /* R4 */
      if (r != 0)
        return r;
      used |= UINT64_C (1) << w.holder;
    }
  }
  if (view_verify (chain, used, &e) == -1)
    return EIO;
  *nr = l.nr;
  r = view_end (chain, k);                                          /* R5 */
  *discarded = r == 0 &&
    count_accessible (view, offset, limit) != accessible;           /* R6 */
  return r;
}
