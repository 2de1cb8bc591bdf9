/* SPDX-License-Identifier: BSD-3-Clause */

/* How much has changed since each point: the sizes of the deltas from all
 * points to now.  cbwctl status shows them.
 */

#ifndef CBW_CHANGES_H
#define CBW_CHANGES_H

#include <stddef.h>
#include <stdint.h>

#include "segment/point.h"
#include "segment/segment.h"
#include "utils/error.h"

struct change {
  struct point point;
  uint64_t bytes;               /* of the clusters changed after it */
};

/* Read the points into list[], which has room for CBW_NR_POINTS, the oldest
 * first, and how much has changed since each of them on a disk that has "size"
 * bytes now.  *nr is their number.  Points that are being merged are left out.
 * Each number is what delta_bytes says of delta_read_now, whether or not the
 * point is valid; but all of them together cost one pass over the bitmaps, and
 * no memory for any.
 *
 * Give up with ETIME at until_ns of now_monotonic_ns; 0: never.  Other errors:
 * EAGAIN (the points change all the time), EBADMSG (a point is damaged, or its
 * bitmap missing), EFBIG, or another.
 */
extern int changes_read (const struct segment *s, uint64_t size,
                         uint64_t until_ns, struct change *list, size_t *nr,
                         struct error *e);

#endif /* CBW_CHANGES_H */
