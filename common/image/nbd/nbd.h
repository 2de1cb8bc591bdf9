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
 * A connection that ends fails the requests in flight, at once; it is ended
 * when one of them has taken five minutes.  The next request connects anew
 * first, but not more often than ten times a second, and waits eleven seconds
 * for that at most.  Before the new connection is used it must serve what the
 * old one had acknowledged: nbd-log.h.  If it does not, the image is lost for
 * good: every request fails, and so does "check".  So a byte must not be
 * written again with another value, unless it was punched.
 *
 * An image has a thread of its own (the keeper), from opening to closing:
 * open images in the process that uses them, after it has forked.
 */

#ifndef CBW_NBD_H
#define CBW_NBD_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "utils/error.h"

/* Does the string name an NBD server, and not a file? */
extern bool image_nbd_is_name (const char *target);

/* Writes fail, and the server need not allow them. */
#define IMAGE_NBD_READONLY 1u

/* The image read as zeroes when it was new, and whatever is to be zero has
 * not been written since: image_zero has nothing to do.
 */
#define IMAGE_NBD_ZEROES 2u

/* For image_nbd_reopen: the process before ended in good order, after a
 * flush that succeeded or with nothing to flush.
 */
#define IMAGE_NBD_FLUSHED 4u

/* Connect once: when that connection ends, the image is lost.  For
 * callers that must know that one process serves all requests.
 */
#define IMAGE_NBD_ONCE 8u

/* Connect to the export that "target" names.  Sets *size (bytes).  Returns
 * NULL and sets the error if it cannot be reached within eleven seconds, or
 * cannot be written (unless READONLY).
 */
extern struct image *image_nbd_open (const char *target, unsigned flags,
                                     uint64_t *size, struct error *e);

/* The same of a server to be started, in argv form: for file names with
 * blanks.  argv is copied.
 */
extern struct image *image_nbd_spawn (char *const argv[], unsigned flags,
                                      uint64_t *size, struct error *e);

/* Words in which an image remembers its last writes: offset, count and
 * checksum of each.  All zero: none.
 */
#define IMAGE_NBD_WORDS (8 * 3)

/* Open an image that an earlier process had.  Its server may still be
 * ending, so try for two seconds; and if it cannot be reached then, open
 * the image all the same, and try again with the requests.  "size" is how
 * many bytes of it are used, and "block" the largest minimum block size that
 * its server may have now.  Of "words", which must outlive the image, the
 * first connection checks that the server still has what they tell of.  They
 * count as not flushed, since the process before may have been killed, unless
 * IMAGE_NBD_FLUSHED says otherwise.
 */
extern struct image *image_nbd_reopen (const char *target, unsigned flags,
                                       uint64_t size, uint32_t block,
                                       _Atomic (uint64_t) *words,
                                       struct error *e);

/* Remember the writes of a new image there, for image_nbd_reopen.  Before
 * others use it.
 */
extern void image_nbd_remember (struct image *image,
                                _Atomic (uint64_t) *words);

/* Nobody is to wait for the server any more: every request in flight and every
 * later one fails at once with ESHUTDOWN, connecting is given up, and closing
 * takes three seconds at most: a command gets one second to end, and is killed
 * then.  "flush" still succeeds if there is nothing to flush, and "check" does
 * not fail for this.  Takes no lock that is held while waiting.  The image is
 * open, and stays so meanwhile.
 */
extern void image_nbd_interrupt (struct image *image);

/* The same of every NBD image of this process, also those which somebody is
 * opening or closing just now, and those which are opened later.
 */
extern void image_nbd_interrupt_all (void);

enum image_nbd_content {
  IMAGE_NBD_ZERO,               /* all reads as zeroes: the server says so */
  IMAGE_NBD_UNKNOWN,            /* zeroes where we looked */
  IMAGE_NBD_DATA,               /* something else */
};

/* What do the first "size" bytes hold?  Servers that do not know call
 * everything data; so where one does not say that there are zeroes, the
 * beginning is read, but not all of it.  -1 with the error set if that
 * cannot be done within two minutes.
 */
extern int image_nbd_content (struct image *image, uint64_t size,
                              struct error *e);

/* What the first "size" bytes hold is not needed any more: make them such that
 * image_nbd_content does not find data.  They are trimmed; where they are data
 * all the same zeroes are written.  Nobody writes to it meanwhile.  It takes
 * as long as the server needs for that, unless it is interrupted.
 */
extern int image_nbd_empty (struct image *image, uint64_t size,
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

#endif /* CBW_NBD_H */
