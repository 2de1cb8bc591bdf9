/* SPDX-License-Identifier: BSD-3-Clause */

/* The request of a client that would read a snapshot without asking: which
 * files hold it, and where its bitmaps are.
 */

#ifndef CBW_SERVE_DIRECT_H
#define CBW_SERVE_DIRECT_H

#include <stdint.h>

#include "below/disk.h"
#include "guest/engine.h"
#include "segment/layout.h"

/* Describe snapshot "id", and those that it looks through.  A target that is no
 * file, or not what it should be, is none that a client can open.  0, or the errno
 * for the client, and the reply is of no use:
 *
 *   ENOTSUP    it is a backup, or the file that the disk is, is not known
 *   ESHUTDOWN  the snapshot is dropped, or never was
 *   EIO        it is broken
 *   EAGAIN     the chain has changed meanwhile
 *
 * "disk" is the source, or NULL; "m" is the segment.  What is in the reply is
 * never read here, as the client may write there.
 */
extern int serve_direct (struct engine *e, const struct cbw_map *m,
                         const struct disk *disk, uint64_t id,
                         struct cbw_direct *reply);

#endif /* CBW_SERVE_DIRECT_H */
