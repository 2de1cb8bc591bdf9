/* SPDX-License-Identifier: BSD-3-Clause */

/* The points of a segment, for programs that only read them, and for a server
 * that takes the segment over: each is copied once, and the copy checked.
 */

#ifndef CBW_POINT_H
#define CBW_POINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout.h"

struct point {
  unsigned index;               /* in the table of points */
  enum cbw_point_state state;
  enum cbw_point_reason reason; /* if it is INVALID */
  uint64_t id;
  uint64_t size;                /* of the disk at that moment, bytes */
  uint64_t created_ns;          /* time of day */
  uint8_t uuid[16];
  uint32_t flags;               /* CBW_POINT_* */
  char name[CBW_NAME_MAX];
};

/* Copy point i.  POINT_NONE: there is none.  POINT_DAMAGED: what is there makes
 * no sense.
 */
enum point_copied { POINT_COPIED, POINT_NONE, POINT_DAMAGED };
extern enum point_copied point_copy (const struct cbw_map *m, unsigned i,
                                     struct point *p);

/* The checksum that belongs into point->sum. */
extern uint64_t point_sum (const struct cbw_point *point);

/* Copy all points into list[], which has room for CBW_NR_POINTS, the oldest
 * first; those that are being merged, too.  Damaged ones are left out.  Returns
 * their number.
 */
extern size_t point_list (const struct cbw_map *m, struct point *list);

/* Find the point called "name", valid or not; the newest of them. */
extern bool point_find (const struct cbw_map *m, const char *name,
                        struct point *p);

/* Why it is invalid, in words: "the disk was changed while ...". */
extern const char *point_reason (enum cbw_point_reason reason);

#endif /* CBW_POINT_H */
