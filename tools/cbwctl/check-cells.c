/* SPDX-License-Identifier: BSD-3-Clause */

/* The write-back buffer: full cells are of snapshots that there are, or
 * were, and of clusters that those have.
 */

#include <config.h>

#include <inttypes.h>

#include "check.h"

static void
check_cell (struct check *c, unsigned i)
{
  const struct cbw_cell *cell = map_cell (&c->segment.map, i);
  const uint32_t state = atomic_load (&map_cell (&c->segment.map, i)->state);
  const struct check_entry *entry;

  if (state > CBW_CELL_FULL)
    check_add (&c->problems, "write-back buffer: cell %u is in state %" PRIu32
               ", which has no meaning", i, state);
  if (state != CBW_CELL_FULL)
    return;
  if (cell->snapshot == 0 ||
      cell->snapshot >= map_header (&c->segment.map)->next_snapshot_id)
    check_add (&c->problems, "write-back buffer: cell %u is of snapshot id %"
               PRIu64 ", which there never was", i, cell->snapshot);
  for (entry = c->entries; entry < c->entries + c->nr_entries; ++entry)
    if (entry->copy.id == cell->snapshot &&
        cell->cluster >= layout_clusters (&c->segment.map.geometry,
                                          entry->copy.size))
      check_add (&c->problems, "write-back buffer: cell %u holds cluster %"
                 PRIu64 " of snapshot \"%s\", which has not so many", i,
                 cell->cluster, entry->copy.name);
}

void
check_cells (struct check *c)
{
  const uint32_t nr = c->segment.map.geometry.nr_cells;
  const uint64_t used = atomic_load (&map_header (&c->segment.map)->cells_used);
  unsigned i;

  if (used > nr)
    check_add (&c->problems, "header: %" PRIu64 " clusters cannot be in a "
               "write-back buffer of %" PRIu32, used, nr);
  for (i = 0; i < nr; ++i)
    check_cell (c, i);
}
