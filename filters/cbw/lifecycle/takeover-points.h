/* SPDX-License-Identifier: BSD-3-Clause */

/* The part of a takeover that is about points; docs/correctness.md, sections
 * 26 and 27.
 */

#ifndef CBW_TAKEOVER_POINTS_H
#define CBW_TAKEOVER_POINTS_H

#include "guest/engine.h"
#include "segment/segment.h"

/* Did the host go down before the last server had ended in order? */
extern bool takeover_host_went_down (const struct cbw_header *h);

/* Before anything is changed: may what the last server left hot be lost? */
extern bool takeover_lost (const struct segment *segment);

/* Take up the points that were found, of a disk that has disk_size bytes now.
 * Invalid are those that cannot be believed any more.
 */
extern void takeover_points (struct engine *engine, const struct cbw_header *h,
                             const struct points_found *points,
                             uint64_t disk_size);

/* The reservation of a snapshot with that uuid is undone; if its point was made
 * already, that goes, too.
 */
extern void takeover_undo_point (struct points *points,
                                 const uint8_t uuid[16]);

#endif /* CBW_TAKEOVER_POINTS_H */
