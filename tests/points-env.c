/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "points-env.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "segment/segment-server.h"
#include "unit.h"

void
points_make (struct segment *s, unsigned i, uint64_t id, const char *name,
             uint64_t size)
{
  struct cbw_point *p = map_point (&s->map, i);
  struct error e;

  CHECK (segment_allocate_changed (s, i, &e) == 0);
  map_header (&s->map)->compat |= CBW_COMPAT_TRACKED;
  p->id = id;
  p->size = size;
  snprintf (p->name, sizeof p->name, "%s", name);
  p->sum = point_sum (p);
  points_set (s, i, CBW_POINT_VALID);
}

void
points_set (struct segment *s, unsigned i, enum cbw_point_state state)
{
  atomic_store (&map_point (&s->map, i)->state, state);
}

void
points_change (struct segment *s, unsigned i, uint64_t size, uint64_t start,
               uint64_t end)
{
  const struct bitmap b = map_changed (&s->map, i, size);

  CHECK (end <= b.nbits);
  bitmap_set (&b, start, end);
}

void
points_snapshot (struct segment *s, unsigned i, uint64_t id, const char *name,
                 uint64_t size, enum cbw_snapshot_state state)
{
  struct cbw_snapshot *entry = map_snapshot (&s->map, i);

  entry->id = id;
  entry->size = size;
  snprintf (entry->name, sizeof entry->name, "%s", name);
  entry->sum = entry_sum (entry);
  atomic_store (&map_header (&s->map)->confirmed_id, UINT64_MAX);
  atomic_store (&entry->state, state);
}
