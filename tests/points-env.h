/* SPDX-License-Identifier: BSD-3-Clause */

/* For unit tests of points and deltas: a segment (segment-env.h) with points,
 * changes and snapshots as a test wants them.
 */

#ifndef CBW_POINTS_ENV_H
#define CBW_POINTS_ENV_H

#include <stdint.h>

#include "segment/layout.h"
#include "segment/segment.h"

/* Make point i, with its bitmap, which is empty. */
extern void points_make (struct segment *s, unsigned i, uint64_t id,
                         const char *name, uint64_t size);

/* Put it into that state. */
extern void points_set (struct segment *s, unsigned i,
                        enum cbw_point_state state);

/* Clusters [start, end) have changed after point i of "size" bytes. */
extern void points_change (struct segment *s, unsigned i, uint64_t size,
                           uint64_t start, uint64_t end);

/* Make entry i of the snapshot table. */
extern void points_snapshot (struct segment *s, unsigned i, uint64_t id,
                             const char *name, uint64_t size,
                             enum cbw_snapshot_state state);

#endif /* CBW_POINTS_ENV_H */
