/* SPDX-License-Identifier: BSD-3-Clause */

/* An NBD server as an image.  What names one is either
 *
 *   a URI                nbd:, nbds:, nbd+unix:, nbds+unix:, nbd+vsock:,
 *                        nbds+vsock:
 *   [ COMMAND ARG... ]   a server that is started for it, which takes its
 *                        socket as systemd gives it (socket activation);
 *                        words are divided by blanks, no shell is involved
 *
 * Many threads may use the image at once, and many of their requests are
 * in flight at once, over up to four connections if the server says that
 * this is safe (multi-conn), else over one.
 *
 * A connection that ends fails the requests in flight, at once; so does
 * one over which nothing came for a minute while requests waited.  The
 * next request connects anew first, but not more often than ten times a
 * second.  Before the new connection is used it must serve what the old
 * one had acknowledged: nbd-log.h.  If it does not, the image is lost
 * for good: every request fails, and so does "check".
 *
 * An image has a thread of its own (the keeper), from opening to closing:
 * open images in the process that uses them, after it has forked.
 */

#ifndef CBW_NBD_H
#define CBW_NBD_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "image.h"

/* Does the string name an NBD server, and not a file? */
extern bool image_nbd_is_name (const char *target);

/* Writes fail, and the server need not allow them. */
#define IMAGE_NBD_READONLY 1u

/* The image was in use before: its server may still be ending, so try for
 * two seconds; and if it cannot be reached, open the image all the same,
 * and try again with the requests.  *size must be the bytes that are
 * used of it, at most its size then.
 */
#define IMAGE_NBD_AGAIN 2u

/* The image read as zeroes when it was new, and whatever is to be zero has
 * not been written since: image_zero has nothing to do.
 */
#define IMAGE_NBD_ZEROES 4u

/* Connect to the export that "target" names.  Sets *size (bytes).  Returns
 * NULL and sets the error if it cannot be reached within ten seconds, or
 * cannot be written (unless READONLY).
 */
extern struct image *image_nbd_open (const char *target, unsigned flags,
                                     uint64_t *size, struct error *e);

/* The same of a server to be started, in argv form: for file names with
 * blanks.  argv is copied.
 */
extern struct image *image_nbd_spawn (char *const argv[], unsigned flags,
                                      uint64_t *size, struct error *e);

enum image_nbd_content {
  IMAGE_NBD_ZERO,               /* all reads as zeroes */
  IMAGE_NBD_UNKNOWN,            /* the server does not say */
  IMAGE_NBD_DATA,               /* it says that there is data */
};

/* What do the first "size" bytes hold, as far as the server knows?  -1 with
 * the error set if it cannot be asked.
 */
extern int image_nbd_content (struct image *image, uint64_t size,
                              struct error *e);

/* The image is new and reads as zeroes: as with IMAGE_NBD_ZEROES.  Before
 * others use it.
 */
extern void image_nbd_set_zeroes (struct image *image);

/* The smallest unit of reads and writes, bytes: a power of two.  Requests
 * are widened for reading; writes must be in whole units.
 */
extern uint32_t image_nbd_block_size (struct image *image);

/* Is the server a command that is started for the image? */
extern bool image_nbd_is_command (const char *target);

/* The bytes of the image are not needed any more: give them back, where
 * the server can.
 */
extern void image_nbd_discard (struct image *image, uint64_t size);

#endif /* CBW_NBD_H */
