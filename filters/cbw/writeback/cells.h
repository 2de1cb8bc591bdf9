/* SPDX-License-Identifier: BSD-3-Clause */

/* The cells of the write-back buffer: which are free, which hold a cluster
 * of which snapshot's, and in what order they came.
 *
 * The truth is in the segment (struct cbw_cell), where it outlives this
 * process; this is the index to it.  Each image has a queue of its own, so
 * that a target which hangs does not stand in the way of others.  Everything
 * here is called with the lock of struct writeback held, but for cell_fill.
 *
 *   free -> reserved -> queued -> busy -> free
 *                          ^        |
 *                          `--------' (not written: the server ends)
 */

#ifndef CBW_CELLS_H
#define CBW_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

struct writeback_image;

struct cell {
  struct writeback_image *image; /* whose cluster it holds, or NULL */
  uint64_t cluster;
  struct cell *next;            /* of the same bucket; or free, reserved */
  struct cell *later, *earlier; /* in the queue */
  unsigned pins;                /* who reads its data */
  bool queued;                  /* else, with an image, busy */
  bool punched;                 /* while busy: to be punched afterwards */
};

struct cell_queue {
  struct cell *first, *last;
};

struct cells {
  const struct cbw_map *map;    /* NULL: there is no buffer */
  uint32_t nr, used;            /* used: those with an image */
  struct cell *all, *free;
  struct cell **buckets;
  uint32_t nr_buckets;          /* a power of two */
};

/* An index of the cells in the segment, none of which is taken for used or
 * for free yet.  -1 (ENOMEM) on error.
 */
extern int cells_init (struct cells *cells, const struct cbw_map *map,
                       struct error *e);
extern void cells_destroy (struct cells *cells);

/* Cells that another server left full of snapshot "id" are "image"'s, and
 * queued.  Returns how many.
 */
extern uint32_t cells_adopt (struct cells *cells, uint64_t id,
                             uint64_t nr_clusters,
                             struct writeback_image *image);

/* What nobody has adopted is free. */
extern void cells_free_rest (struct cells *cells);

/* Take n free cells, a list by "next"; NULL if there are not so many. */
extern struct cell *cells_reserve (struct cells *cells, uint64_t n);

/* Write a cluster of snapshot "id" into a reserved cell; without the
 * lock.
 */
extern void cell_fill (const struct cells *cells, const struct cell *cell,
                       uint64_t id, uint64_t cluster, const void *data,
                       uint64_t length);

/* A cell that is full becomes the last of the image's queue.  If the image has the
 * cluster in another one already, which has the same data, the cell is free
 * again, and false is returned.
 */
extern bool cells_add (struct cells *cells, struct cell *cell,
                       struct writeback_image *image, uint64_t cluster);

/* The cell with that cluster, or NULL. */
extern struct cell *cells_find (const struct cells *cells,
                                const struct writeback_image *image,
                                uint64_t cluster);

/* Its data, for who has it pinned, or busy. */
extern void *cell_data (const struct cells *cells, const struct cell *cell);

/* Queued, it becomes busy; or the other way round, as the first. */
extern void cell_take (struct cell *cell);
extern void cell_put_back (struct cell *cell);

/* Its cluster is in the target, or of no use any more.  While somebody has
 * it pinned its data stays.
 */
extern void cells_release (struct cells *cells, struct cell *cell);

static inline void
cell_pin (struct cell *cell)
{
  cell->pins++;
}

extern void cell_unpin (struct cells *cells, struct cell *cell);

#endif /* CBW_CELLS_H */
