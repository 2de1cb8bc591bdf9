/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of points: moments in the disk's history of which there is no
 * data, so that a backup can say what has changed since.  There is room for
 * it in the segment, which costs nothing while nobody uses it: no program
 * does yet.
 */

#ifndef CBW_LAYOUT_POINTS_H
#define CBW_LAYOUT_POINTS_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout-header.h"
#include "segment/layout-table.h"

/*   EMPTY -> VALID -> EMPTY
 *              `----> INVALID -> EMPTY
 *
 * INVALID: its changed bitmap cannot be believed; sticky.
 */
enum cbw_point_state {
  CBW_POINT_EMPTY = 0,
  CBW_POINT_VALID = 1,
  CBW_POINT_INVALID = 2,
};

enum cbw_point_reason {
  CBW_POINT_REBOOT = 1,         /* the host went down uncleanly */
  CBW_POINT_SOURCE = 2,         /* the disk was changed while not served */
};

struct cbw_point {
  /* Fixed while it is in use; sum covers them. */
  uint64_t id;                  /* from the counter of the snapshots */
  uint64_t size;                /* of the disk at that moment, bytes */
  uint64_t created_ns;          /* time of day */
  uint8_t uuid[16];
  char name[CBW_NAME_MAX];      /* NUL-terminated */
  uint8_t reserved[80];
  uint64_t sum;                 /* layout_sum of all before it */

  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) state;     /* enum cbw_point_state */
  uint32_t reason;              /* enum cbw_point_reason; before INVALID */
  uint8_t reserved2[56];
};
static_assert (sizeof (struct cbw_point) == 256, "cbw_point");
static_assert (offsetof (struct cbw_point, state) == 192, "cbw_point");

#endif /* CBW_LAYOUT_POINTS_H */
