/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl status: the points, and how much has changed since each of them.
 *
 * Counting reads all changed bitmaps: 20 to 100 ms for each point of a disk of
 * 64 TiB in clusters of 64 KiB.  A single look takes that time.  Repeated
 * looks count in at most a tenth of the time, and show the last numbers
 * meanwhile.  Each gives up after WATCH_LIMIT, so that a key is not ignored
 * for long.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segment/changes.h"
#include "status.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define WATCH_LIMIT (2 * NS_PER_SEC)
#define WATCH_PART 10

const struct status_snapshot *
status_find_snapshot (const struct status *s, uint64_t id)
{
  unsigned i;

  for (i = 0; i < s->nr_snapshots; ++i)
    if (s->snapshots[i].info.id == id)
      return &s->snapshots[i];
  return NULL;
}

/* Add a copy of a point to the list. */
static struct status_point *
add_point (const struct segment *segment, const struct point *point,
           struct status *s)
{
  const struct status_snapshot *snap = status_find_snapshot (s, point->id);
  struct status_point *p = &s->points[s->nr_points++];

  *p = (struct status_point) {
    .point = *point,
    .has_snapshot = snap && snap->info.state != CBW_SNAPSHOT_HIDDEN,
  };
  /* The server that runs, or the last one, did not know points. */
  if (!(map_header (&segment->map)->compat & CBW_COMPAT_TRACKED) &&
      p->point.state == CBW_POINT_VALID) {
    p->point.state = CBW_POINT_INVALID;
    p->point.reason = CBW_POINT_UNTRACKED;
  }
  return p;
}

static void
list_points (const struct segment *segment, struct status *s)
{
  struct point point;
  unsigned i;

  s->disk_size = s->geometry.disk_size;
  for (i = 0; i < s->nr_snapshots; ++i)
    s->disk_size = max_u64 (s->disk_size, s->snapshots[i].info.size);
  s->nr_points = s->nr_damaged_points = 0;
  for (i = 0; i < CBW_NR_POINTS; ++i)
    switch (point_copy (&segment->map, i, &point)) {
    case POINT_COPIED:
      s->disk_size = max_u64 (s->disk_size, point.size);
      if (point.state != CBW_POINT_MERGING)
        add_point (segment, &point, s);
      break;
    case POINT_DAMAGED: s->nr_damaged_points++; break;
    case POINT_NONE: break;
    }
}

static int
by_age (const void *a, const void *b)
{
  const struct status_point *x = a, *y = b;

  return x->point.id < y->point.id ? -1 : x->point.id > y->point.id;
}

/* Count, and replace the list by that which was counted. */
static int
count (const struct segment *segment, uint64_t until_ns, struct status *s,
       struct error *e)
{
  CLEANUP_FREE struct change *list = calloc (CBW_NR_POINTS, sizeof *list);
  struct status_point *p;
  size_t nr, i;

  if (list == NULL)
    return error_set_errno (e, ENOMEM, "%s", segment->path);
  if (changes_read (segment, s->disk_size, until_ns, list, &nr, e) == -1)
    return -1;
  s->nr_points = 0;
  for (i = 0; i < nr; ++i) {
    p = add_point (segment, &list[i].point, s);
    p->is_counted = true;
    p->changed_bytes = list[i].bytes;
  }
  return 0;
}

/* Take what was counted at the look before. */
static void
take_counts (const struct status *last, struct status *s)
{
  const struct status_point *before;
  unsigned i;

  s->count_again_ns = last->count_again_ns;
  strcpy (s->not_counted, last->not_counted);
  for (i = 0; i < s->nr_points; ++i) {
    before = status_find_point (last, s->points[i].point.id);
    if (before) {
      s->points[i].is_counted = before->is_counted;
      s->points[i].changed_bytes = before->changed_bytes;
    }
  }
}

void
status_collect_points (const struct segment *segment,
                       const struct status *last, struct status *s)
{
  const uint64_t start = now_monotonic_ns ();
  struct error e;

  list_points (segment, s);
  qsort (s->points, s->nr_points, sizeof s->points[0], by_age);
  s->not_counted[0] = '\0';
  s->count_again_ns = 0;
  if (s->nr_points == 0)
    return;
  if (last && last->path && start < last->count_again_ns &&
      memcmp (last->uuid, s->uuid, sizeof s->uuid) == 0)
    take_counts (last, s);
  else {
    if (count (segment, last ? start + WATCH_LIMIT : 0, s, &e) == -1)
      strcpy (s->not_counted, e.msg);
    s->count_again_ns = start + WATCH_PART * (now_monotonic_ns () - start);
  }
}

const struct status_point *
status_find_point (const struct status *s, uint64_t id)
{
  unsigned i;

  for (i = 0; i < s->nr_points; ++i)
    if (s->points[i].point.id == id)
      return &s->points[i];
  return NULL;
}

const char *
status_kind_name (const struct status_point *p)
{
  return p->point.flags & CBW_POINT_BACKUP ? "backup" :
    p->has_snapshot ? "snapshot" : "checkpoint";
}

const char *
status_invalid (const struct status_point *p)
{
  return p->point.state == CBW_POINT_INVALID ?
    point_reason (p->point.reason) : NULL;
}

bool
status_is_counted (const struct status_point *p)
{
  return p->is_counted && p->point.state == CBW_POINT_VALID;
}
