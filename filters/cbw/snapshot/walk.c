/* SPDX-License-Identifier: BSD-3-Clause */

/* Walking over a range of a snapshot by holder.  Reads and extents use this.
 * Each step looks at the bits once.
 */

#include <config.h>

#include "snapshot/walk.h"
#include "utils/rounding.h"

void
walk_start (struct walk *w, const struct chain *chain, size_t k,
            struct image *source, uint64_t offset, uint64_t end)
{
  *w = (struct walk) {
    .chain = chain, .k = k, .source = source, .end = end, .from = offset,
    .to = offset
  };
}

bool
walk_next (struct walk *w)
{
  const struct snapshot *snap = w->chain->snaps[w->k];
  const uint64_t cs = snap->cluster_size;
  const uint64_t c = w->to / cs, end = (w->end + cs - 1) / cs;
  uint64_t run, stop;

  w->from = w->to;
  if (w->from == w->end)
    return false;
  /* One look at the bit: see chain.h. */
  stop = bitmap_next_clear (&snap->access, c, end);
  w->accessible = stop > c;
  if (w->accessible) {
    w->holder = chain_holder (w->chain, w->k, c, stop, &run);
    w->image = walk_in_source (w) ? w->source :
      w->chain->snaps[w->holder]->store;
  }
  else
    run = bitmap_next_set (&snap->access, c, end);
  w->to = min_u64 (run * cs, w->end);
  return true;
}

bool
walk_source_hull (const struct chain *chain, size_t k, uint64_t offset,
                  uint64_t end, uint64_t *from, uint64_t *to)
{
  struct walk w;
  bool any = false;

  walk_start (&w, chain, k, NULL, offset, end);
  while (walk_next (&w))
    if (walk_in_source (&w)) {
      if (!any)
        *from = w.from;
      *to = w.to;
      any = true;
    }
  return any;
}
