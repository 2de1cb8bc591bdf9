/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a snapshot: source first, then the done bits, then the targets,
 * then the snapshot's state (docs/correctness.md says why in this order).
 * Nobody waits for anybody here.
 *
 * Every function takes the snapshot by id and checks the range, and
 * returns 0 or the errno for the client:
 *   ESHUTDOWN  no such snapshot (any more)
 *   EIO        it is broken, or the source or target could not be read
 *   EPERM      the range is not wholly accessible (reads)
 *   EINVAL     the range is not inside the snapshot
 */

#ifndef CBW_VIEW_H
#define CBW_VIEW_H

#include <stdint.h>

#include "below/source.h"
#include "guest/engine.h"
#include "segment/layout.h"

/* The data of [offset, offset+count) into buf. */
extern int view_read (struct engine *e, struct image *source,
                      uint64_t id, void *buf, uint64_t count,
                      uint64_t offset);

/* Discard the whole clusters in the range: they are not accessible any
 * more, guests' writes there preserve nothing for this snapshot, and the
 * space that no older one reads is given back.  Cannot be undone.  Of a
 * backup nothing can be discarded (EPERM).
 */
extern int view_discard (struct engine *e, uint64_t id, uint64_t count,
                         uint64_t offset);

/* The extents from offset on, what is not accessible as holes of unknown
 * content: up to CBW_EXTENTS_MAX, so perhaps not all
 * of the range, but at least one; the last may go beyond the range.  *nr
 * is their number.
 */
extern int view_extents (struct engine *e, struct image *source,
                         uint64_t id, uint64_t count, uint64_t offset,
                         bool source_extents, struct cbw_extent *extents,
                         uint32_t *nr);

/* Prefetch what of the range comes from the source. */
extern int view_cache (struct engine *e, const struct source *source,
                       uint64_t id, uint64_t count, uint64_t offset);

#endif /* CBW_VIEW_H */
