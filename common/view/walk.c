/* SPDX-License-Identifier: BSD-3-Clause */

/* Walking over a range of a view by holder, for reads and extents.  Each step
 * looks at the bits once.
 */

#include <config.h>

#include "view/walk.h"
#include "utils/rounding.h"

void
walk_start (struct walk *w, const struct view_chain *chain, size_t k,
            uint64_t offset, uint64_t end)
{
  *w = (struct walk) {
    .chain = chain, .k = k, .end = end, .from = offset, .to = offset
  };
}

bool
walk_next (struct walk *w)
{
  const struct view *view = w->chain->views[w->k];
  const uint64_t cs = view->cluster_size;
  const uint64_t c = w->to / cs, end = (w->end + cs - 1) / cs;
  uint64_t run, stop;

  w->from = w->to;
  if (w->from == w->end)
    return false;
  /* One look at the bit: see view.h. */
  stop = bitmap_next_clear (&view->access, c, end);
  w->accessible = stop > c;
  if (w->accessible) {
    w->holder = view_holder (w->chain, w->k, c, stop, &run);
    w->image = view_image (w->chain, w->holder, NULL);
  }
  else
    run = bitmap_next_set (&view->access, c, end);
  w->to = min_u64 (run * cs, w->end);
  return true;
}

bool
walk_source_hull (const struct view_chain *chain, size_t k,
                  uint64_t offset, uint64_t end, uint64_t *from, uint64_t *to)
{
  struct walk w;
  bool any = false;

  walk_start (&w, chain, k, offset, end);
  while (walk_next (&w))
    if (walk_in_source (&w)) {
      if (!any)
        *from = w.from;
      *to = w.to;
      any = true;
    }
  return any;
}
