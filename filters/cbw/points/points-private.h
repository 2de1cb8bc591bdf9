/* SPDX-License-Identifier: BSD-3-Clause */

/* What the files of this folder share: points.c, changes.c and inherit.c.  The
 * lock is held in all of these.
 */

#ifndef CBW_POINTS_PRIVATE_H
#define CBW_POINTS_PRIVATE_H

#include "points/points.h"

static inline unsigned
points_index (const struct points *p, const struct points_entry *entry)
{
  return (unsigned) (entry - p->entries);
}

static inline struct cbw_point *
points_shared (const struct points *p, const struct points_entry *entry)
{
  return map_point (&p->segment->map, points_index (p, entry));
}

/* Sequentially consistent: J3 comes before J4 for all who read. */
static inline void
points_set_state (const struct points *p, const struct points_entry *entry,
                  enum cbw_point_state state)
{
  atomic_store (&points_shared (p, entry)->state, state);
}

static inline struct bitmap
points_bits (const struct points *p, const struct points_entry *entry)
{
  return map_changed (&p->segment->map, points_index (p, entry), entry->size);
}

static inline bool
points_is_made (const struct points_entry *entry)
{
  return entry->use == POINTS_USED || entry->use == POINTS_MERGING;
}

/* The point "id", or NULL. */
extern struct points_entry *points_get (struct points *p, uint64_t id);

/* The newest that is older than "id", of those that stay; or NULL. */
extern struct points_entry *points_before (struct points *p, uint64_t id);

/* What guests mark in from now on; the gate is closed. */
extern void points_set_newest (struct points *p,
                               const struct points_entry *entry);

/* It cannot be believed any more, for that reason (enum cbw_point_reason). */
extern void points_invalidate (struct points *p, struct points_entry *entry,
                               uint32_t reason);

/* to |= from, as far as "to" reaches. */
extern void points_add_bits (const struct bitmap *to,
                             const struct bitmap *from);

#endif /* CBW_POINTS_PRIVATE_H */
