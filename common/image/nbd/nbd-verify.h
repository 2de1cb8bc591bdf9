/* SPDX-License-Identifier: BSD-3-Clause */

/* Is what a new link leads to the image that it was?
 *
 * 1 yes; 0 not now, perhaps later; -1 no, and it never will be.  Unless it
 * is 1 the error is set.  Called without a lock, by the keeper, while the
 * image has no link.
 */

#ifndef CBW_NBD_VERIFY_H
#define CBW_NBD_VERIFY_H

#include "image/nbd/nbd-keeper.h"

/* Size, block size, and whether it may be written. */
extern int nbd_verify_info (const struct nbd_image *nbd,
                            const struct nbd_link *link, struct error *e);

/* Does it have all that the server before had acknowledged, as far as the
 * log knows?
 */
extern int nbd_verify_log (const struct nbd_image *nbd,
                           const struct nbd_link *link, struct error *e);

#endif /* CBW_NBD_VERIFY_H */
