/* SPDX-License-Identifier: BSD-3-Clause */

/* A range of a view, in bytes, and a walk over the parts of it that one
 * holder holds, in one chain.  Guests change the bits meanwhile: each part is
 * as it was found at one look, and a later walk may find others.
 *
 * The range is not empty and lies inside the view.
 */

#ifndef CBW_WALK_H
#define CBW_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "view/view.h"

struct walk {
  const struct view_chain *chain;
  size_t k;                     /* index of the view */
  uint64_t end;                 /* of the range */

  uint64_t from, to;            /* this part */
  bool accessible;              /* or it has no holder */
  size_t holder;                /* chain->len: the source */
  struct image *image;          /* the holder's, unless it is the source */
};

/* Walk over [offset, end) of view k; no part is looked at yet. */
extern void walk_start (struct walk *w, const struct view_chain *chain,
                        size_t k, uint64_t offset, uint64_t end);

/* Go to the next part; false at the end. */
extern bool walk_next (struct walk *w);

static inline bool
walk_in_source (const struct walk *w)
{
  return w->accessible && w->holder == w->chain->len;
}

/* The smallest range that covers all that comes from the source now; false
 * if nothing does.
 */
extern bool walk_source_hull (const struct view_chain *chain, size_t k,
                              uint64_t offset, uint64_t end, uint64_t *from,
                              uint64_t *to);

#endif /* CBW_WALK_H */
