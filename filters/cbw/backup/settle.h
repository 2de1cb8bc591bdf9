/* SPDX-License-Identifier: BSD-3-Clause */

/* Settling clusters of a backup: seeing to it that its target holds the
 * snapshot's data of them, wherever that is now.
 *
 *   holder          what is done                        bit set
 *   the source      copied, as a guest's change would   done
 *   a newer one     copied from its target              moved
 *   the backup      nothing: a guest has copied it      (done)
 *
 * So a cluster of a backup is settled when it is done or moved, and when all
 * are, the target is a whole image.  docs/correctness.md, section 15, says why
 * done bits are not set in the second case.
 *
 * Clusters are claimed from the copier as a guest's change claims them, so
 * that nothing is copied twice.  What a guest has claimed is left out, not
 * waited for.
 */

#ifndef CBW_SETTLE_H
#define CBW_SETTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "copy/copy.h"
#include "snapshot/chain.h"
#include "utils/error.h"

/* One thread's work on one backup. */
struct settle {
  struct chain_head *chain;
  struct copier *copier;
  struct image *source;         /* the protected disk */
  struct snapshot *snap;        /* of the backup; the caller's reference */

  /* Set by settle_range. */
  uint64_t bytes;               /* read */
  uint64_t error_offset;        /* bytes */
};

/* Is what the target holds compared, and only what differs written? */
static inline bool
settle_compares (const struct snapshot *snap)
{
  return snap->fixed.increment.flags & CBW_INCREMENT_COMPARE;
}

/* Where does the run of clusters from "start" on end which are holes for
 * whoever holds them (*hole), or may be data?  A hint: it is asked without
 * a claim.  start < result <= end.
 */
extern uint64_t settle_probe (const struct settle *s, uint64_t start,
                              uint64_t end, bool *hole);

/* Settle what is not of [start, end), which is no longer than a piece; or
 * any length, with "hole", of which then only what is a hole is settled.
 * Returns as transfer_run, for all of it: TRANSFER_LEFT_OUT if the snapshot is
 * not live any more.  What had been settled before an error stays so.
 */
extern enum transfer_result settle_range (struct settle *s, uint64_t start,
                                          uint64_t end, bool hole,
                                          struct error *e);

/* The target holds the snapshot's data of [start, end) already, any length: say
 * so of what is not settled.  What a guest has claimed is left out, as it is
 * being copied.
 */
extern void settle_held (struct settle *s, uint64_t start, uint64_t end);

#endif /* CBW_SETTLE_H */
