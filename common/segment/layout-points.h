/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of points: moments in the disk's history, from which changes are
 * counted.  Each snapshot is one while it lives; a checkpoint is one of which
 * there is no data.
 *
 * A point's CHANGED bitmap (layout-bitmaps.h) has the clusters that guests may
 * have changed after it and before the next point.  Guests' changes are
 * marked in that of the newest point alone.
 */

#ifndef CBW_LAYOUT_POINTS_H
#define CBW_LAYOUT_POINTS_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout-header.h"
#include "segment/layout-table.h"

/*   EMPTY --> VALID ---------> MERGING --> EMPTY
 *               `--> INVALID -----^
 *
 * INVALID: no changes can be told from it on any more, for good.  What its
 * bitmap says still counts for older points.
 * MERGING: it was dropped; its bitmap is being added to that of the point
 * before it, and counts for older points until then.
 */
enum cbw_point_state {
  CBW_POINT_EMPTY = 0,
  CBW_POINT_VALID = 1,
  CBW_POINT_INVALID = 2,
  CBW_POINT_MERGING = 3,
};

enum cbw_point_reason {
  CBW_POINT_REBOOT = 1,         /* the host went down uncleanly */
  CBW_POINT_SOURCE = 2,         /* the disk was changed while not served */
  CBW_POINT_UNTRACKED = 3,      /* it was served by a filter that does not
                                 * mark changes */
  CBW_POINT_SEGMENT = 4,        /* the segment could not be written to disk */
};

#define CBW_POINT_BACKUP 1u     /* it is of a backup; when that has left the
                                 * point may go, too, to make room for others */

struct cbw_point {
  /* Fixed while it is in use; sum covers them. */
  uint64_t id;                  /* from the counter of the snapshots; that of
                                 * its snapshot */
  uint64_t size;                /* of the disk at that moment, bytes */
  uint64_t created_ns;          /* time of day */
  uint8_t uuid[16];             /* that of its snapshot */
  char name[CBW_NAME_MAX];      /* NUL-terminated */
  uint32_t flags;               /* CBW_POINT_* */
  uint8_t reserved[76];
  uint64_t sum;                 /* layout_sum of all before it */

  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) state;     /* enum cbw_point_state */
  uint32_t reason;              /* enum cbw_point_reason; before INVALID */
  uint8_t reserved2[56];
};
static_assert (sizeof (struct cbw_point) == 256, "cbw_point");
static_assert (offsetof (struct cbw_point, state) == 192, "cbw_point");

#endif /* CBW_LAYOUT_POINTS_H */
