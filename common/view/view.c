/* SPDX-License-Identifier: BSD-3-Clause */

/* Who holds a cluster.  Readers and writers of snapshots call this. */

#include <config.h>

#include "view/view.h"

int
view_find (const struct view_chain *chain, uint64_t id)
{
  size_t i;

  for (i = 0; chain && i < chain->len; ++i)
    if (chain->views[i]->id == id)
      return (int) i;
  return -1;
}

size_t
view_holder (const struct view_chain *chain, size_t k, uint64_t c,
             uint64_t end, uint64_t *run)
{
  const struct bitmap *done;
  uint64_t next;
  size_t j;

  for (j = k; j < chain->len; ++j) {
    if (j > k && chain->views[j]->backup)
      continue;
    done = &chain->views[j]->done;
    next = bitmap_next_set (done, c, end);
    if (next == c) {
      *run = bitmap_next_clear (done, c, end);
      return j;
    }
    end = next;
  }
  *run = end;
  return j;
}
