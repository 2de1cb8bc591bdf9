/* SPDX-License-Identifier: BSD-3-Clause */

/* Looking points up, what has changed since one, and when that is not known any
 * more.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "below/log.h"
#include "points/points-private.h"
#include "segment/segment-server.h"
#include "utils/cleanup.h"

bool
points_find (struct points *p, uint64_t id, struct points_entry *copy)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = points_get (p, id);
  if (entry == NULL || entry->use != POINTS_USED)
    return false;
  *copy = *entry;
  return true;
}

bool
points_find_image (struct points *p, const uint8_t uuid[16],
                   struct points_entry *copy)
{
  const uint64_t id = points_find_uuid (p, uuid);

  return id != 0 && points_find (p, id, copy);
}

bool
points_find_older (struct points *p, uint64_t id, struct points_entry *copy)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  for (entry = points_before (p, id); entry && !entry->valid;
       entry = points_before (p, entry->id))
    ;
  if (entry)
    *copy = *entry;
  return entry != NULL;
}

uint64_t
points_find_uuid (struct points *p, const uint8_t uuid[16])
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (points_is_made (entry) && memcmp (entry->uuid, uuid, 16) == 0)
      return entry->id;
  return 0;
}

void
points_add_bits (const struct bitmap *to, const struct bitmap *from)
{
  const uint64_t end = min_u64 (to->nbits, from->nbits);
  uint64_t start, stop;

  for (start = 0; (start = bitmap_next_set (from, start, end)) < end;
       start = stop) {
    stop = bitmap_next_clear (from, start, end);
    bitmap_set (to, start, stop);
  }
}

/* What there was not at that moment counts as changed. */
static void
add_growth (const struct points *p, uint64_t before, uint64_t size,
            const struct bitmap *bits)
{
  const uint64_t start = before / p->cluster_size;

  if (before < size && start < bits->nbits)
    bitmap_set (bits, start, bits->nbits);
}

int
points_changes (struct points *p, uint64_t from, uint64_t to, uint64_t size,
                const struct bitmap *bits)
{
  const struct points_entry *entry, *first;
  struct bitmap changed;

  LOCK_FOR_SCOPE (&p->lock);
  first = points_get (p, from);
  if (first == NULL)
    return ENOENT;
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (points_is_made (entry) && entry->id >= from && entry->id < to) {
      changed = points_bits (p, entry);
      points_add_bits (bits, &changed);
    }
  add_growth (p, first->size, size, bits);
  return 0;
}

bool
points_has_changed (struct points *p, uint64_t from, uint64_t cluster)
{
  const struct points_entry *entry;
  struct bitmap changed;

  LOCK_FOR_SCOPE (&p->lock);
  if (points_get (p, from) == NULL)
    return true;
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (points_is_made (entry) && entry->id >= from) {
      changed = points_bits (p, entry);
      if (cluster < changed.nbits && bitmap_test (&changed, cluster))
        return true;
    }
  return false;
}

void
points_mark_from (struct points *p, uint64_t id, uint64_t offset,
                  uint64_t count)
{
  const uint64_t start = offset / p->cluster_size;
  const uint64_t end = (offset + count + p->cluster_size - 1) /
    p->cluster_size;
  const struct points_entry *entry, *first;
  struct bitmap bits;

  LOCK_FOR_SCOPE (&p->lock);
  first = points_before (p, id + 1);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry) {
    if (!points_is_made (entry) || (first && entry->id < first->id))
      continue;
    bits = points_bits (p, entry);
    if (start < min_u64 (end, bits.nbits))
      bitmap_set (&bits, start, min_u64 (end, bits.nbits));
  }
}

uint64_t
points_newest (struct points *p)
{
  const struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  entry = points_before (p, UINT64_MAX);
  return entry ? entry->id : 0;
}

void
points_doubt (struct points *p, uint32_t reason)
{
  struct points_entry *entry;

  LOCK_FOR_SCOPE (&p->lock);
  for (entry = p->entries; entry < p->entries + CBW_NR_POINTS; ++entry)
    if (entry->use == POINTS_USED && entry->valid)
      points_invalidate (p, entry, reason);
}

bool
points_persist (struct points *p)
{
  const int r = p->durable ? segment_write_back (p->segment) : 0;

  if (r == 0)
    return true;
  errno = r;
  log_error ("cbw: %s: cannot be written to disk: %m", p->segment->path);
  points_doubt (p, CBW_POINT_SEGMENT);
  return false;
}

void
points_invalidate (struct points *p, struct points_entry *entry,
                   uint32_t reason)
{
  entry->valid = false;
  log_error ("cbw: changes since \"%s\" are not known any more: %s",
             entry->name, point_reason (reason));
  points_shared (p, entry)->reason = reason;
  points_set_state (p, entry, CBW_POINT_INVALID);
}
