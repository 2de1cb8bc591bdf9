/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading the table of points. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "segment/point.h"

uint64_t
point_sum (const struct cbw_point *point)
{
  return layout_sum (point, offsetof (struct cbw_point, sum));
}

/* A copy of the record, all of it in one state.  That changes a few times in
 * the point's life, so trying again soon succeeds.
 */
static uint32_t
copy_record (struct cbw_point *shared, struct cbw_point *copy)
{
  uint32_t state, before;

  state = atomic_load_explicit (&shared->state, memory_order_acquire);
  do {
    before = state;
    memcpy (copy, shared, sizeof *copy);
    atomic_thread_fence (memory_order_acquire);
    state = atomic_load_explicit (&shared->state, memory_order_acquire);
  } while (state != before);
  return state;
}

enum point_copied
point_copy (const struct cbw_map *m, unsigned i, struct point *p)
{
  struct cbw_point copy;
  const uint32_t state = copy_record (map_point (m, i), &copy);

  if (state == CBW_POINT_EMPTY)
    return POINT_NONE;
  if (state > CBW_POINT_MERGING || copy.sum != point_sum (&copy) ||
      copy.id == 0 || !memchr (copy.name, '\0', sizeof copy.name) ||
      !layout_has_room (&m->geometry, copy.size))
    return POINT_DAMAGED;
  *p = (struct point) {
    .index = i,
    .state = state,
    .reason = copy.reason,
    .id = copy.id,
    .size = copy.size,
    .created_ns = copy.created_ns,
    .flags = copy.flags,
  };
  memcpy (p->uuid, copy.uuid, sizeof p->uuid);
  memcpy (p->name, copy.name, sizeof p->name);
  return POINT_COPIED;
}

static int
by_id (const void *a, const void *b)
{
  const struct point *x = a, *y = b;

  return x->id < y->id ? -1 : x->id > y->id;
}

size_t
point_list (const struct cbw_map *m, struct point *list)
{
  size_t nr = 0;
  unsigned i;

  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (m, i, &list[nr]) == POINT_COPIED)
      nr++;
  qsort (list, nr, sizeof list[0], by_id);
  return nr;
}

bool
point_find (const struct cbw_map *m, const char *name, struct point *p)
{
  struct point found;
  bool any = false;
  unsigned i;

  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (m, i, &found) == POINT_COPIED &&
        found.state != CBW_POINT_MERGING && strcmp (found.name, name) == 0 &&
        (!any || found.id > p->id)) {
      *p = found;
      any = true;
    }
  return any;
}

const char *
point_reason (enum cbw_point_reason reason)
{
  switch (reason) {
  case CBW_POINT_REBOOT:
    return "the host went down without a clean shutdown of the server";
  case CBW_POINT_SOURCE:
    return "the disk was changed while it was not served";
  case CBW_POINT_UNTRACKED:
    return "the disk was served by a filter that does not mark changes";
  case CBW_POINT_SEGMENT:
    return "the segment could not be written to disk";
  }
  return "for a reason that this version does not know";
}
