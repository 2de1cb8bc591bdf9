/* SPDX-License-Identifier: BSD-3-Clause */

/* A snapshot as it is read: its bitmaps, its state, and the image that holds
 * the clusters that have been copied for it.  And a chain of such views,
 * ordered by age: views[0] is the oldest.
 *
 * View k sees cluster c as the first of k, k+1, ... which has its done bit
 * set holds it, and if none has, as the source holds it.  A backup's image is
 * to leave when it is whole.  So no other view looks through a backup: it is a
 * holder for itself alone.
 *
 *       k          k+1          k+2 (backup)     k+3          source
 *     done? ----> done? ---------------------> done? -------> else
 *
 * Guests change the bits while they are looked at: a done bit is set but never
 * cleared, an access bit cleared but never set again.  So each function
 * decides by one load of a bit, and looks for the end of the run after that: a
 * second look at the same bit might find it changed, and the run empty.
 *
 * A chain of views never changes.  The caller keeps it, and what it points to.
 */

#ifndef CBW_VIEW_H
#define CBW_VIEW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "segment/layout.h"
#include "utils/bitmap.h"
#include "utils/rounding.h"

struct view {
  uint64_t id;                  /* 0 before it is live */
  uint64_t size;                /* bytes */
  uint32_t cluster_size;
  bool backup;                  /* no other view looks through it */
  const _Atomic (uint32_t) *state; /* enum cbw_snapshot_state */
  struct bitmap access, done;   /* in the segment */
  struct image *store;          /* holds what is done */
};

struct view_chain {
  size_t len;
  const struct view *views[CBW_NR_SNAPSHOTS];
};

static inline uint64_t
view_clusters (const struct view *view)
{
  return view->done.nbits;
}

/* How many bytes clusters [start, end) are: the last may be a part of one. */
static inline uint64_t
view_bytes (const struct view *view, uint64_t start, uint64_t end)
{
  return min_u64 (end * view->cluster_size, view->size) -
    start * view->cluster_size;
}

static inline enum cbw_snapshot_state
view_state (const struct view *view)
{
  return atomic_load_explicit (view->state, memory_order_acquire);
}

/* The index of snapshot "id", or -1.  "chain" may be NULL. */
extern int view_find (const struct view_chain *chain, uint64_t id);

/* Who holds the data of cluster c for view k?  Returns an index into views, or
 * chain->len for the source.  *run is set so that the answer is the same for
 * [c, *run), with c < *run <= end, and end within view k.
 */
extern size_t view_holder (const struct view_chain *chain, size_t k,
                           uint64_t c, uint64_t end, uint64_t *run);

/* The holder's image. */
static inline struct image *
view_image (const struct view_chain *chain, size_t holder,
            struct image *source)
{
  return holder == chain->len ? source : chain->views[holder]->store;
}

#endif /* CBW_VIEW_H */
