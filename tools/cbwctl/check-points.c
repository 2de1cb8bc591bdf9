/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl check: the points, one by one and by age.
 *
 * - The disk never shrinks, so no point has a smaller one than an older point.
 *
 * - Bits beyond the end of the disk are clear, as what is there when the disk
 *   has grown counts as changed anyway.
 *
 * - The point of a snapshot has its id, and with it all else that names it.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "utils/cleanup.h"

/* Say what is wrong with a point of which point_copy says no more than that it
 * is damaged.
 */
static void
check_damaged (struct check *c, unsigned i)
{
  struct cbw_point *shared = map_point (&c->segment.map, i), copy;
  const uint32_t state = atomic_load (&shared->state);

  memcpy (&copy, shared, sizeof copy);
  if (c->rebooted && state <= CBW_POINT_MERGING) {
    check_add (&c->notes, "point %u was being made when the host went down; "
               "the next server leaves it out", i);
    return;
  }
  if (state > CBW_POINT_MERGING)
    check_add (&c->problems, "point %u: it is in state %" PRIu32
               ", which has no meaning", i, state);
  else if (copy.sum != point_sum (&copy))
    check_add (&c->problems, "point %u: its checksum is wrong", i);
  else if (copy.id == 0)
    check_add (&c->problems, "point %u: its id is 0", i);
  else if (!memchr (copy.name, '\0', sizeof copy.name))
    check_add (&c->problems, "point %u: its name has no end", i);
  else
    check_add (&c->problems, "point %u: bitmaps have no room for a disk of %"
               PRIu64 " bytes", i, copy.size);
}

static void
check_fixed (struct check *c, const struct point *p)
{
  const uint64_t next = map_header (&c->segment.map)->next_snapshot_id;
  struct error e;

  if (p->id >= next && !c->rebooted) /* the number may be an old one then */
    check_add (&c->problems, "point %u: its id is %" PRIu64 ", and the next "
               "one to be given is %" PRIu64, p->index, p->id, next);
  if (entry_check_name (p->name, &e) == -1)
    check_add (&c->problems, "point %u: %s", p->index, e.msg);
  if (p->state == CBW_POINT_INVALID &&
      (p->reason < CBW_POINT_REBOOT || p->reason > CBW_POINT_SEGMENT))
    check_add (&c->notes, "point \"%s\" is invalid for reason %u, which this "
               "program does not know", p->name, (unsigned) p->reason);
  if (p->state == CBW_POINT_MERGING && !c->alive)
    check_add (&c->notes, "point \"%s\" was being dropped when the server "
               "ended; the next one completes that", p->name);
}

static void
check_changed (struct check *c, const struct point *p)
{
  const uint64_t end = c->segment.map.geometry.bitmap_size * 8;
  struct bitmap b;
  uint64_t bit;

  if (c->segment.map.changed[p->index] == 0) {
    check_add (&c->problems, "point \"%s\": its changed bitmap is missing",
               p->name);
    return;
  }
  b = map_changed (&c->segment.map, p->index, p->size);
  bit = bitmap_next_set (&b, b.nbits, end);
  if (bit < end)
    check_add (&c->problems, "point \"%s\": bit %" PRIu64 " of its changed "
               "bitmap is set, but it has only %" PRIu64 " clusters", p->name,
               bit, b.nbits);
}

/* Of two points, the first of which is as old as the second, or older. */
static void
check_two (struct check *c, const struct point *x, const struct point *y)
{
  if (x->id == y->id)
    check_add (&c->problems, "points %u and %u have the same id, %" PRIu64,
               x->index, y->index, x->id);
  else if (x->size > y->size)
    check_add (&c->problems, "point \"%s\": the disk had %" PRIu64 " bytes, "
               "and %" PRIu64 " at the older point \"%s\", but a disk does "
               "not shrink", y->name, y->size, x->size, x->name);
}

/* Of a point, and a snapshot with the same id. */
static void
check_snapshot (struct check *c, const struct point *p)
{
  const struct check_entry *entry;

  for (entry = c->entries; entry < c->entries + c->nr_entries; ++entry)
    if (entry->copy.id == p->id &&
        check_state (entry) != CBW_SNAPSHOT_HIDDEN &&
        (memcmp (entry->copy.uuid, p->uuid, sizeof p->uuid) != 0 ||
         entry->copy.size != p->size ||
         strcmp (entry->copy.name, p->name) != 0))
      check_add (&c->problems, "point %u and snapshot \"%s\" have the same "
                 "id, but not the same %s", p->index, entry->copy.name,
                 entry->copy.size != p->size ? "size" :
                 strcmp (entry->copy.name, p->name) != 0 ? "name" : "uuid");
}

/* Points that are valid, but which the next server makes invalid. */
static void
check_valid (struct check *c, const struct point *list, size_t nr)
{
  const struct cbw_header *h = map_header (&c->segment.map);
  enum cbw_point_reason reason;
  size_t i;

  if (c->rebooted && h->durable != 1)
    reason = CBW_POINT_REBOOT;
  else if (!(h->compat & CBW_COMPAT_TRACKED))
    reason = CBW_POINT_UNTRACKED;
  else
    return;
  for (i = 0; i < nr && list[i].state != CBW_POINT_VALID; ++i)
    ;
  if (i < nr)
    check_add (&c->notes, "%s: the next server will make the points invalid",
               point_reason (reason));
}

void
check_points (struct check *c)
{
  CLEANUP_FREE struct point *list = calloc (CBW_NR_POINTS, sizeof *list);
  struct point point;
  size_t nr, i;

  if (list == NULL)
    abort ();
  segment_find_bitmaps (&c->segment, 0, 0); /* for map_changed */
  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (&c->segment.map, (unsigned) i, &point) == POINT_DAMAGED)
      check_damaged (c, (unsigned) i);
  nr = point_list (&c->segment.map, list);
  for (i = 0; i < nr; ++i) {
    check_fixed (c, &list[i]);
    check_changed (c, &list[i]);
    check_snapshot (c, &list[i]);
    if (i > 0)
      check_two (c, &list[i - 1], &list[i]);
  }
  check_valid (c, list, nr);
}
