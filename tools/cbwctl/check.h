/* SPDX-License-Identifier: BSD-3-Clause */

/* What cbwctl check finds: problems, which make it fail, and notes, which
 * do not.  check.c looks at the segment as a whole, check-directory.c at
 * where its bitmaps lie, check-snapshots.c at its snapshots, check-cells.c at
 * the write-back buffer, check-bitmaps.c at the bits of those, and
 * check-points.c at the points and their bits.
 */

#ifndef CBW_CHECK_H
#define CBW_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "segment/layout.h"
#include "segment/segment.h"

struct check_list {
  char **lines;
  size_t nr;
};

struct check {
  struct segment segment;
  bool alive;                   /* it has a server */
  bool rebooted;                /* since its server was killed */
  struct check_list problems, notes;

  /* Copies of the entries in use, oldest first; check_snapshots fills
   * them in, only with such as may be looked at further.
   */
  struct check_entry {
    unsigned index;
    struct cbw_snapshot copy;
  } entries[CBW_NR_SNAPSHOTS];
  size_t nr_entries;
};

/* Note a problem or a note, in a line. */
extern void check_add (struct check_list *list, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* The state of a copy of an entry. */
static inline enum cbw_snapshot_state
check_state (const struct check_entry *entry)
{
  return atomic_load ((_Atomic (uint32_t) *) &entry->copy.state);
}

/* The bitmap directory. */
extern void check_directory (struct check *c);

/* The snapshot table, the targets. */
extern void check_snapshots (struct check *c);

/* The write-back buffer, as far as it is of c->entries. */
extern void check_cells (struct check *c);

/* The bitmaps and counters of c->entries. */
extern void check_bitmaps (struct check *c);

/* The points, their bitmaps, and those of c->entries that have one. */
extern void check_points (struct check *c);

#endif /* CBW_CHECK_H */
