/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a range of a view.  docs/correctness.md, section 2, has the argument
 * for the order of the steps, R1 to R6.
 */

#include <config.h>

#include <errno.h>

#include "view/read.h"
#include "view/walk.h"

static int
check_state (const struct view *view)
{
  switch (view_state (view)) {
  case CBW_SNAPSHOT_LIVE: return 0;
  case CBW_SNAPSHOT_BROKEN: return EIO;
  default: return ESHUTDOWN;    /* dropped */
  }
}

int
view_check (const struct view_chain *chain, size_t k, uint64_t count,
            uint64_t offset)
{
  const struct view *view = chain->views[k];

  if (count == 0 || offset > view->size || count > view->size - offset)
    return EINVAL;
  return check_state (view);
}

int
view_end (const struct view_chain *chain, size_t k)
{
  atomic_thread_fence (memory_order_acquire);
  return check_state (chain->views[k]);
}

static bool
is_accessible (const struct view *view, uint64_t count, uint64_t offset)
{
  return bitmap_all_set (&view->access, offset / view->cluster_size,
                         (offset + count + view->cluster_size - 1) /
                         view->cluster_size);
}

/* Read one piece of what comes from the source. */
static int
read_piece (struct image *source, char *buf, uint64_t offset, uint64_t from,
            uint64_t to)
{
  struct error e;

  return source->ops->pread (source, buf + (from - offset), to - from, from,
                             &e) == -1 ? e.num : 0;                 /* R1 */
}

int
view_read_source (const struct view_chain *chain, size_t k,
                  struct image *source, void *buf, uint64_t count,
                  uint64_t offset, struct view_part *part)
{
  uint64_t from = 0;
  struct walk w;

  *part = (struct view_part) { .err = 0 };
  if (!is_accessible (chain->views[k], count, offset))
    return EPERM;
  walk_start (&w, chain, k, offset, offset + count);
  while (part->err == 0 && walk_next (&w)) {
    if (!walk_in_source (&w))
      continue;
    if (part->to == 0)
      from = part->from = w.from;
    else if (source->skip != 0 && w.from - part->to >= source->skip) {
      part->err = read_piece (source, buf, offset, from, part->to);
      from = w.from;
    }
    part->to = w.to;
  }
  if (part->err == 0 && part->to != 0)
    part->err = read_piece (source, buf, offset, from, part->to);
  return 0;
}

int
view_verify (const struct view_chain *chain, uint64_t used, struct error *e)
{
  size_t i;

  for (; used != 0; used &= used - 1) {
    i = (size_t) __builtin_ctzll (used);
    if (image_verify (chain->views[i]->store, e) == -1)             /* R4' */
      return -1;
  }
  return 0;
}

int
view_read_rest (const struct view_chain *chain, size_t k,
                const struct view_part *part, void *buf, uint64_t count,
                uint64_t offset, struct error *e)
{
  uint64_t used = 0;
  struct walk w;
  int r;

  e->num = 0;
  walk_start (&w, chain, k, offset, offset + count);                /* R3 */
  while (walk_next (&w)) {
    if (!w.accessible)
      return EPERM;
    if (walk_in_source (&w)) {
      if (part->err != 0)
        return part->err;
      continue;
    }
    if (w.image->ops->pread (w.image, (char *) buf + (w.from - offset), /* R4 */
                             w.to - w.from, w.from, e) == -1)
      return EIO;
    used |= UINT64_C (1) << w.holder;
  }
  if (view_verify (chain, used, e) == -1)
    return EIO;
  r = view_end (chain, k);                                          /* R5 */
  return r == 0 && !is_accessible (chain->views[k], count, offset) ? /* R6 */
    EPERM : r;
}
