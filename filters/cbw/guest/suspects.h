/* SPDX-License-Identifier: BSD-3-Clause */

/* What a snapshot needs of clusters where a change of an earlier time may yet
 * land in the source (inflight.h): its own copy, before anybody reads it.  And
 * what a point needs: a mark.
 */

#ifndef CBW_SUSPECTS_H
#define CBW_SUSPECTS_H

#include "guest/engine.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

/* How much is copied with the gate closed, and for how long guests wait. */
#define SUSPECTS_MAX (UINT64_C (8) << 20)
#define SUSPECTS_NS NS_PER_SEC

/* Copy the suspect clusters that may be read in "snap", which is new and not
 * in the chain, to its target.  The gate is closed, and the caller holds
 * e->control.  A cluster that the source cannot read is withdrawn from the
 * snapshot, unless that is a backup.  0, or -1 with the error set: EBUSY if
 * they are too many, or it takes too long; or what else went wrong.
 */
extern int suspects_copy (struct engine *e, struct snapshot *snap,
                          struct error *error);

/* At a takeover, before guests are served: preserve suspect clusters that
 * live snapshots still have from the source, as for a guest's change.  0, or -1
 * with the error set if a guest's change there would fail.
 */
extern int suspects_preserve (struct engine *e, struct error *error);

/* K5: mark all suspect clusters in the point that is the newest now.  The gate
 * is closed.
 */
extern void suspects_mark (struct engine *e);

#endif /* CBW_SUSPECTS_H */
