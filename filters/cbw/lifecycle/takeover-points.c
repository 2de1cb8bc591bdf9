/* SPDX-License-Identifier: BSD-3-Clause */

/* Taking over points: can they still be believed?  See takeover-points.h. */

#include <config.h>

#include <string.h>

#include "below/identity.h"
#include "lifecycle/takeover-points.h"

bool
takeover_host_went_down (const struct cbw_header *h)
{
  uint8_t boot_id[16];

  segment_boot_id (boot_id);
  return h->clean != 1 && memcmp (boot_id, h->boot_id, sizeof boot_id) != 0;
}

bool
takeover_lost (const struct segment *segment)
{
  const struct cbw_header *h = map_header (&segment->map);

  return !segment->fresh && (takeover_host_went_down (h) || h->source_kept != 1);
}

/* Why can no point be believed any more?  0: there is no reason. */
static uint32_t
doubt_points (const struct engine *engine, const struct cbw_header *h,
              const struct points_found *points, uint64_t disk_size)
{
  const struct disk *disk = engine->source.disk;

  if (takeover_host_went_down (h) && h->durable != 1)
    return CBW_POINT_REBOOT;
  if (!engine->points.track || !(h->compat & CBW_COMPAT_TRACKED))
    return CBW_POINT_UNTRACKED;
  /* It was larger in the meantime; sizes never fall by themselves. */
  if (points->nr > 0 && points->list[points->nr - 1].size > disk_size)
    return CBW_POINT_SOURCE;
  if (disk && disk->forgets)
    return CBW_POINT_SOURCE;
  if (disk && h->clean == 1 && identity_differs (&h->source, &disk->file))
    return CBW_POINT_SOURCE;
  return 0;
}

void
takeover_points (struct engine *engine, const struct cbw_header *h,
                 const struct points_found *points, uint64_t disk_size)
{
  const uint64_t last =
    points_inherit (&engine->points, points,
                    doubt_points (engine, h, points, disk_size));

  /* The header may not have come to disk. */
  if (engine->table.next_id <= last)
    engine->table.next_id = last + 1;
}

void
takeover_undo_point (struct points *points, const uint8_t uuid[16])
{
  const uint64_t id = points_find_uuid (points, uuid);

  if (id != 0) {
    points_leave (points, id);
    points_merge (points, id);
  }
}
