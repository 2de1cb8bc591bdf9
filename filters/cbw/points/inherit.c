/* SPDX-License-Identifier: BSD-3-Clause */

/* The points that an earlier server has left. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "below/log.h"
#include "points/points-private.h"
#include "utils/cleanup.h"

int
points_look (const struct segment *segment, bool torn,
             struct points_found *found, struct error *e)
{
  struct point copy;
  unsigned i;
  size_t j;

  found->nr = point_list (&segment->map, found->list);
  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (&segment->map, i, &copy) == POINT_DAMAGED && !torn)
      return error_set (e, EBADMSG, "%s: is corrupt: entry %u of its table of "
                        "points is damaged; remove the segment to start anew",
                        segment->path, i);
  for (j = 0; j < found->nr; ++j)
    if ((j > 0 && (found->list[j].id == found->list[j - 1].id ||
                   found->list[j].size < found->list[j - 1].size)) ||
        segment->map.changed[found->list[j].index] == 0)
      return error_set (e, EBADMSG, "%s: is corrupt: the point \"%s\" does not "
                        "fit the others; remove the segment to start anew",
                        segment->path, found->list[j].name);
  return 0;
}

static void
adopt (struct points *p, const struct point *copy, uint32_t doubt)
{
  struct points_entry *entry = &p->entries[copy->index];

  *entry = (struct points_entry) {
    .use = copy->state == CBW_POINT_MERGING ? POINTS_MERGING : POINTS_USED,
    .valid = copy->state == CBW_POINT_VALID,
    .id = copy->id, .size = copy->size, .flags = copy->flags,
  };
  memcpy (entry->uuid, copy->uuid, sizeof entry->uuid);
  memcpy (entry->name, copy->name, sizeof entry->name);
  LOG_WATCH (takeover, "point \"%s\" (id %" PRIu64 "), state %d", copy->name,
             copy->id, (int) copy->state);
  if (copy->state == CBW_POINT_VALID && doubt != 0)
    points_invalidate (p, entry, doubt);
}

/* What was damaged is free for another. */
static void
clear_others (struct points *p)
{
  const struct points_entry *entry;

  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_FREE)
      points_set_state (p, entry, CBW_POINT_EMPTY);
}

uint64_t
points_inherit (struct points *p, const struct points_found *found,
                uint32_t doubt)
{
  size_t j;

  for (j = 0; j < found->nr; ++j)
    adopt (p, &found->list[j], doubt);
  clear_others (p);
  /* The oldest first: what is before it is no such one then. */
  for (j = 0; j < found->nr; ++j)
    if (found->list[j].state == CBW_POINT_MERGING)
      points_merge (p, found->list[j].id);
  LOCK_FOR_SCOPE (&p->lock);
  if (p->track)
    points_set_newest (p, points_before (p, UINT64_MAX));
  return found->nr > 0 ? found->list[found->nr - 1].id : 0;
}
