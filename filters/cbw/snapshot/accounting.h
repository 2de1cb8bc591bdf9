/* SPDX-License-Identifier: BSD-3-Clause */

/* The counters of what has been copied for a snapshot, and of what its target
 * holds.  They are in the snapshot's entry, and nothing else changes them.
 *
 *   held_bytes        data in the target, or on its way there.  It is what
 *                     counts for the quota: added to before a write, so that
 *                     writes side by side cannot exceed that
 *   copied_bytes      the same, but nothing is ever taken off
 *   copied_clusters   done bits that are set
 *   moved_clusters    moved bits that are set
 *
 * The last three are added to after the bits, the bytes last.  So a reader
 * that takes the counters before the bits, and the bytes first, never finds a
 * counter too high.
 */

#ifndef CBW_ACCOUNTING_H
#define CBW_ACCOUNTING_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

/* "count" bytes are about to be written to the target.  0, and they are held;
 * or -1 with the error set to EDQUOT if the quota does not allow them.
 */
extern int accounting_hold (const struct snapshot *snap, uint64_t count,
                            struct error *e);

/* The target holds "count" bytes less: they were not written after all, or
 * are to be written again, or have been punched.
 */
extern void accounting_give_back (const struct snapshot *snap, uint64_t count);

/* So many clusters have been marked done, or moved, and the target holds
 * "held" bytes of them.
 */
extern void accounting_done (const struct snapshot *snap, uint64_t clusters,
                             uint64_t held);
extern void accounting_moved (const struct snapshot *snap, uint64_t clusters,
                              uint64_t held);

/* How many bytes of [offset, end) are data in the image?  Adds them to *bytes.
 * Returns false if the image cannot tell of all.
 */
extern bool accounting_data (struct image *image, uint64_t offset,
                             uint64_t end, uint64_t *bytes);

/* After a takeover: count what the target holds of what is done, as the
 * quota does.  A server that was killed had counted copies that were under
 * way.  Where the target cannot tell, it is no more than all of these
 * clusters.  (A backup has no quota.)
 */
extern void accounting_recount_held (const struct snapshot *snap);

/* After a takeover, before guests and fill continue: count the clusters of a
 * backup.  A server that was killed may have set bits and not counted them.
 */
extern void accounting_recount_backup (const struct snapshot *snap);

#endif /* CBW_ACCOUNTING_H */
