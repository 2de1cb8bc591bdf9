/* SPDX-License-Identifier: BSD-3-Clause */

/* The moment at which a snapshot is taken, with the gate closed: may it be
 * taken of the disk as it is now?
 */

#ifndef CBW_CUT_H
#define CBW_CUT_H

#include "guest/engine.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

/* Called by engine_commit in a hold (hold.h), before "snap", which is new, or
 * NULL for a checkpoint, becomes live; the disk was of "size" bytes when it was
 * begun.  Should the hold end meanwhile, the answer is worth nothing, and does
 * no harm.  0, or -1 with the error set:
 *
 *   EAGAIN   the disk has grown beyond that size, and can be read whole now:
 *            begin anew
 *   EFBIG    it has grown, and cannot be read whole
 *   EINVAL   connections have disks of their own (proof.h)
 *   others   as suspects_copy (suspects.h)
 */
extern int cut_check (struct engine *e, struct snapshot *snap, uint64_t size,
                      struct error *error);

#endif /* CBW_CUT_H */
