/* SPDX-License-Identifier: BSD-3-Clause */

/* What the filter keeps of writes that have not ended: old data on its way
 * to a target, and guests' changes on their way to the source.
 */

#ifndef CBW_LAYOUT_WRITES_H
#define CBW_LAYOUT_WRITES_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

enum cbw_cell_state {
  CBW_CELL_FREE = 0,
  CBW_CELL_FULL = 1,
};

/* One cluster of old data that is on its way to a snapshot's target.  The
 * rest is written before the state is set to FULL (release), which comes
 * before the cluster's done bit; it is FREE again when the target has it.
 */
struct cbw_cell {
  _Atomic (uint32_t) state;     /* enum cbw_cell_state */
  uint32_t reserved;
  uint64_t snapshot;            /* id */
  uint64_t cluster;
  uint64_t reserved2;
};
static_assert (sizeof (struct cbw_cell) == 32, "cbw_cell");

/*   FREE -> CLAIMED -> UNDER_WAY -> FREE
 *                          `-----> SUSPECT
 *
 * CLAIMED: being written; its change has not gone to the source.
 * UNDER_WAY: it may have, or is about to.
 * SUSPECT: nobody waits for the change any more, but it may still be under
 * way in the source's server.
 */
enum cbw_inflight_state {
  CBW_INFLIGHT_FREE = 0,
  CBW_INFLIGHT_CLAIMED = 1,
  CBW_INFLIGHT_UNDER_WAY = 2,
  CBW_INFLIGHT_SUSPECT = 3,
};

/* A guest's change of the source that is under way.  Only the filter looks
 * at it; filters/cbw/guest/inflight.h.
 */
struct cbw_inflight {
  _Atomic (uint32_t) state;     /* enum cbw_inflight_state */
  uint32_t reserved;
  uint64_t offset;              /* bytes */
  uint64_t count;               /* bytes */
  uint64_t reserved2;
};
static_assert (sizeof (struct cbw_inflight) == 32, "cbw_inflight");

#endif /* CBW_LAYOUT_WRITES_H */
