/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a range of a view, and asking for its extents, in the steps whose
 * order makes both right (docs/correctness.md, section 2).  Nobody waits for
 * anybody here.
 *
 *   view_check           may it be read at all?
 *   view_..._source      the source, as far as the chain of that time says
 *                        (the caller looks at the chain anew)
 *   view_..._rest        the bits, then the targets, as that chain says; and
 *                        last, state and access
 *
 * They return 0 or the errno for the client:
 *
 *   ESHUTDOWN  the snapshot is dropped
 *   EIO        it is broken, or the source or a target could not be read
 *   EPERM      the range is not wholly accessible (reads)
 *   EINVAL     the range is not inside the snapshot
 *   others     of the source
 */

#ifndef CBW_READ_H
#define CBW_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utils/error.h"
#include "view/view.h"

/* May [offset, offset+count) of view k be read? */
extern int view_check (const struct view_chain *chain, size_t k,
                       uint64_t count, uint64_t offset);

/* R5, the last step but one, after the data: is it still so?  A break that
 * this reader raced with came before the first change that was not preserved.
 * (The functions below do this themselves.)
 */
extern int view_end (const struct view_chain *chain, size_t k);

/* R4': verify the stores of the views whose bits are set in "used". */
extern int view_verify (const struct view_chain *chain, uint64_t used,
                        struct error *e);

/* What of a range has been read from the source: all that came from there
 * then, and perhaps what lies between.
 */
struct view_part {
  uint64_t from, to;            /* bytes; empty: nothing */
  int err;                      /* 0, or that could not be read */
};

/* R1: read what of the range comes from the source into "buf", which stands
 * for all of the range.  EPERM if it is not wholly accessible; that the source
 * fails is no error yet, as the range may be in a target meanwhile.
 */
extern int view_read_source (const struct view_chain *chain, size_t k,
                             struct image *source, void *buf, uint64_t count,
                             uint64_t offset, struct view_part *part);

/* R3 to R6: read the rest, in the chain as it is now.  If a target fails,
 * *e says why; else e->num is 0.
 */
extern int view_read_rest (const struct view_chain *chain, size_t k,
                           const struct view_part *part, void *buf,
                           uint64_t count, uint64_t offset, struct error *e);

/* How far the last extent may reach beyond what was asked for.  It saves the
 * client questions, and the source the search for its end: on some file
 * systems that takes as long as the extent.
 */
#define VIEW_EXTENTS_BEYOND (UINT64_C (64) << 30)

/* What the source has said of a range; view_extents_source allocates it, and
 * the caller frees it.
 */
struct view_source {
  struct image_extent *extents; /* CBW_EXTENTS_MAX; NULL: nothing is known */
  size_t nr;
};

/* R1: ask for the extents of what of the range comes from the source; up to
 * "limit" if the last is as long as that.
 */
extern int view_extents_source (const struct view_chain *chain, size_t k,
                                struct image *source, uint64_t count,
                                uint64_t offset, uint64_t limit,
                                struct view_source *from_source);

/* R3 to R6: put the extents together, in the chain as it is now; what is not
 * accessible as holes of unknown content.  They begin at offset, and reach up
 * to "limit", or to less, if there are more than CBW_EXTENTS_MAX or more than
 * cover "count" bytes; but there is at least one.  *nr is their number.
 *
 * *discarded: a part was discarded meanwhile, and may look like zeroes; they
 * are of no use.
 */
extern int view_extents_rest (const struct view_chain *chain, size_t k,
                              const struct view_source *from_source,
                              uint64_t count, uint64_t offset, uint64_t limit,
                              struct cbw_extent *extents, uint32_t *nr,
                              bool *discarded);

#endif /* CBW_READ_H */
