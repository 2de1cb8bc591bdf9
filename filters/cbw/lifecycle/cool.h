/* SPDX-License-Identifier: BSD-3-Clause */

/* Cooling: bringing guests' changes to stable storage, so that less counts as
 * changed after an unclean end.  docs/correctness.md, section 27.
 */

#ifndef CBW_COOL_H
#define CBW_COOL_H

#include "guest/engine.h"

/* At the start, after the takeover and before there are guests: what the last
 * server left hot counts as changed if "lost" says that it may be, and the
 * disk is flushed.
 */
extern void cool_start (struct engine *e, bool lost);

/* The segment says on stable storage whether it is durable: where nothing is
 * kept hot, what an earlier server left so is of no meaning any more.
 */
extern void cool_begin (struct engine *e);

/* A round; it ends at once if that is not due.  In a control thread, one at a
 * time.  It may wait for the disk, and for the segment's.
 */
extern void cool_round (struct engine *e);

/* A snapshot, or a point, with that id has been made: see to it that deltas
 * tell all, whatever becomes of the source's server or of the host, before
 * anybody is told of it.
 */
extern void cool_confirm (struct engine *e, uint64_t id);

/* The server has ended in order, and the disk was flushed after the last
 * guest.
 */
extern void cool_stop (struct engine *e);

#endif /* CBW_COOL_H */
