/* SPDX-License-Identifier: BSD-3-Clause */

/* Ranges of an NBD image as requests over its link: cut into pieces that
 * the server takes, and failures put into words.
 *
 * Ranges are in whole blocks of the server (link->info.minimum_block).  All
 * functions return 0, or -1 with the error set; then some pieces may have
 * been done.
 */

#ifndef CBW_NBD_RANGE_H
#define CBW_NBD_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "image/nbd/nbd-keeper.h"
#include "utils/error.h"

/* The link, while a request uses it. */
struct nbd_use {
  struct nbd_image *nbd;
  struct nbd_link *link;
};

static inline void
cleanup_nbd_use (struct nbd_use *use)
{
  if (use->link)
    nbd_keeper_put (use->nbd, use->link);
}

/* Have the link in the scope, or return -1 from it. */
#define NBD_USE_LINK(use, image, e)                                     \
  __attribute__ ((cleanup (cleanup_nbd_use)))                           \
  struct nbd_use use = {                                                \
    .nbd = (struct nbd_image *) image,                                  \
    .link = nbd_keeper_get ((struct nbd_image *) image, e),             \
  };                                                                    \
  if (use.link == NULL)                                                 \
    return -1

/* Requests as large as the server takes. */
extern int nbd_range_read (const struct nbd_use *use, void *buf,
                           uint64_t count, uint64_t offset, struct error *e);
extern int nbd_range_write (const struct nbd_use *use, const void *buf,
                            uint64_t count, uint64_t offset,
                            struct error *e);

/* Zeroes and trims are sent in pieces of this many bytes: NBD's lengths
 * are 32 bits wide, and each should come to an end.
 */
#define NBD_SPAN_MAX (UINT64_C (1) << 30)

/* Make up to NBD_SPAN_MAX bytes read as zeroes, which are sent as data
 * where the server has no command for that.
 */
extern int nbd_range_zero (const struct nbd_use *use, uint64_t count,
                           uint64_t offset, struct error *e);

/* The same, if the server has a fast way, of which it takes care itself:
 * *done is false if it has not.
 */
extern int nbd_range_zero_fast (const struct nbd_use *use, uint64_t count,
                                uint64_t offset, bool *done,
                                struct error *e);

/* A hint: nothing is done where the server has no command for it. */
extern int nbd_range_trim (const struct nbd_use *use, uint64_t count,
                           uint64_t offset, struct error *e);

/* The first extent: *length bytes, 1 to count, which read as zeroes, or may
 * be data.  All is data where the server does not say.  Shorter than 512
 * bytes only if count is.
 */
extern int nbd_range_extent (const struct nbd_use *use, uint64_t count,
                             uint64_t offset, uint64_t *length, bool *zero,
                             struct error *e);

#endif /* CBW_NBD_RANGE_H */
