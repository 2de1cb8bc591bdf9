/* SPDX-License-Identifier: BSD-3-Clause */

/* What reading a snapshot (view.c) and asking for its extents
 * (view-extents.c) have in common: the steps around the source and the
 * targets, whose order is what makes both right (docs/correctness.md,
 * section 2).
 *
 *   view_begin    the chain, the request
 *   ...           the source, as far as that chain says
 *   view_again    the chain as it is after that
 *   ...           the bits, then the targets, as that chain says
 *   view_end      the snapshot's state
 *
 * They return 0 or the errno for the client, as in view.h.
 */

#ifndef CBW_VIEW_STEPS_H
#define CBW_VIEW_STEPS_H

#include <stddef.h>
#include <stdint.h>

#include "guest/engine.h"

/* Look the snapshot up and check the request.  *chain holds a reference,
 * or is NULL, whatever is returned; on success *k is the snapshot's index
 * in it.
 */
extern int view_begin (struct engine *e, uint64_t id, uint64_t count,
                       uint64_t offset, struct chain **chain, size_t *k);

/* The source has been read: look at the chain anew, since a snapshot made
 * meanwhile holds what was overwritten meanwhile.  Sets *chain and *k as
 * view_begin does.
 */
extern int view_again (struct engine *e, uint64_t id, struct chain **chain,
                       size_t *k);

/* The last step, after the data: a break or a discard that this read raced
 * with came before the first change that was not preserved.
 */
extern int view_end (const struct chain *chain, size_t k);

#endif /* CBW_VIEW_STEPS_H */
