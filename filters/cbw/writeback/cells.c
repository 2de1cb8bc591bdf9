/* SPDX-License-Identifier: BSD-3-Clause */

/* The index of the write-back buffer: free cells, a queue for each image, and
 * a hash table from cluster to cell.  The other files of this folder call it,
 * with their lock held.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writeback/cells.h"
#include "writeback/writeback-private.h"

static unsigned
index_of (const struct cells *cells, const struct cell *cell)
{
  return (unsigned) (cell - cells->all);
}

static struct cell **
find_bucket (const struct cells *cells, const struct writeback_image *image,
             uint64_t cluster)
{
  const uint64_t key = cluster * UINT64_C (0x9e3779b97f4a7c15) ^
    (uint64_t) (uintptr_t) image >> 4;

  return &cells->buckets[(key ^ key >> 32) & (cells->nr_buckets - 1)];
}

/* The counter in the segment is for those who look. */
static void
set_used (struct cells *cells, uint32_t used)
{
  cells->used = used;
  atomic_store_explicit (&map_header (cells->map)->cells_used, used,
                         memory_order_relaxed);
}

int
cells_init (struct cells *cells, const struct cbw_map *map, struct error *e)
{
  const uint32_t nr = map->geometry.nr_cells;
  uint32_t n = 1;

  *cells = (struct cells) { 0 };
  while (n < nr)
    n *= 2;
  cells->all = calloc (nr, sizeof *cells->all);
  cells->buckets = calloc (n, sizeof (struct cell *));
  if (cells->all == NULL || cells->buckets == NULL) {
    cells_destroy (cells);
    return error_set_errno (e, ENOMEM, "index of the write-back buffer");
  }
  cells->nr = nr;
  cells->nr_buckets = n;
  cells->map = map;
  return 0;
}

void
cells_destroy (struct cells *cells)
{
  free (cells->all);
  free (cells->buckets);
  *cells = (struct cells) { 0 };
}

static void
queue_cell (struct cell *cell, struct cell *earlier)
{
  struct cell_queue *q = &cell->image->queue;
  struct cell *later = earlier ? earlier->later : q->first;

  cell->earlier = earlier;
  cell->later = later;
  *(earlier ? &earlier->later : &q->first) = cell;
  *(later ? &later->earlier : &q->last) = cell;
  cell->queued = true;
}

static void
unqueue_cell (struct cell *cell)
{
  struct cell_queue *q = &cell->image->queue;

  *(cell->earlier ? &cell->earlier->later : &q->first) = cell->later;
  *(cell->later ? &cell->later->earlier : &q->last) = cell->earlier;
  cell->queued = false;
}

static void
free_cell (struct cells *cells, struct cell *cell)
{
  cell->next = cells->free;
  cells->free = cell;
}

bool
cells_add (struct cells *cells, struct cell *cell,
           struct writeback_image *image, uint64_t cluster)
{
  struct cell **head = find_bucket (cells, image, cluster);

  if (cells_find (cells, image, cluster)) {
    atomic_store (&map_cell (cells->map, index_of (cells, cell))->state,
                  CBW_CELL_FREE);
    free_cell (cells, cell);
    return false;
  }
  cell->image = image;
  cell->cluster = cluster;
  cell->punched = false;
  cell->next = *head;
  *head = cell;
  queue_cell (cell, image->queue.last);
  set_used (cells, cells->used + 1);
  return true;
}

uint32_t
cells_adopt (struct cells *cells, uint64_t id, uint64_t nr_clusters,
             struct writeback_image *image)
{
  struct cbw_cell *in_segment;
  uint64_t cluster;
  uint32_t i, n = 0;

  for (i = 0; i < cells->nr; ++i) {
    in_segment = map_cell (cells->map, i);
    if (atomic_load_explicit (&in_segment->state, memory_order_acquire) !=
        CBW_CELL_FULL || in_segment->snapshot != id)
      continue;
    cluster = ((const volatile struct cbw_cell *) in_segment)->cluster;
    if (cluster < nr_clusters && cells_find (cells, image, cluster) == NULL &&
        cells_add (cells, &cells->all[i], image, cluster))
      n++;
  }
  return n;
}

void
cells_free_rest (struct cells *cells)
{
  uint32_t i;

  cells->free = NULL;
  for (i = cells->nr; i-- > 0;)
    if (cells->all[i].image == NULL) {
      atomic_store (&map_cell (cells->map, i)->state, CBW_CELL_FREE);
      free_cell (cells, &cells->all[i]);
    }
  set_used (cells, cells->used);
}

struct cell *
cells_reserve (struct cells *cells, uint64_t n)
{
  struct cell *first = cells->free, *last = first;

  for (; last && n > 1; --n)
    last = last->next;
  if (last == NULL)
    return NULL;
  cells->free = last->next;
  last->next = NULL;
  return first;
}

void *
cell_data (const struct cells *cells, const struct cell *cell)
{
  return map_cell_data (cells->map, index_of (cells, cell));
}

void
cell_fill (const struct cells *cells, const struct cell *cell, uint64_t id,
           uint64_t cluster, const void *data, uint64_t length)
{
  struct cbw_cell *in_segment = map_cell (cells->map, index_of (cells, cell));

  memcpy (cell_data (cells, cell), data, length);
  in_segment->snapshot = id;
  in_segment->cluster = cluster;
  atomic_store_explicit (&in_segment->state, CBW_CELL_FULL,
                         memory_order_release);
}

struct cell *
cells_find (const struct cells *cells, const struct writeback_image *image,
            uint64_t cluster)
{
  struct cell *cell = *find_bucket (cells, image, cluster);

  while (cell && !(cell->image == image && cell->cluster == cluster))
    cell = cell->next;
  return cell;
}

void
cell_take (struct cell *cell)
{
  unqueue_cell (cell);
}

void
cell_put_back (struct cell *cell)
{
  queue_cell (cell, NULL);
}

void
cells_release (struct cells *cells, struct cell *cell)
{
  struct cell **p = find_bucket (cells, cell->image, cell->cluster);

  if (cell->queued)
    unqueue_cell (cell);
  while (*p != cell)
    p = &(*p)->next;
  *p = cell->next;
  cell->image = NULL;
  atomic_store_explicit (&map_cell (cells->map, index_of (cells, cell))->state,
                         CBW_CELL_FREE, memory_order_release);
  set_used (cells, cells->used - 1);
  if (cell->pins == 0)
    free_cell (cells, cell);
}

void
cell_unpin (struct cells *cells, struct cell *cell)
{
  if (--cell->pins == 0 && cell->image == NULL)
    free_cell (cells, cell);
}
