/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests to the filter through the request list.
 *
 * Each function blocks until the reply is there.  They may be called by
 * many threads at once.  They return 0 or an errno, among them ESHUTDOWN
 * when the filter is gone (and the client's timeout is over) or the
 * snapshot is.
 */

#ifndef CBW_REQUEST_H
#define CBW_REQUEST_H

#include <stdint.h>

#include "request/client.h"

/* Read count bytes at offset of a snapshot. */
extern int request_read (struct client *c, uint64_t snapshot, void *buf,
                         uint64_t count, uint64_t offset);

/* Ask for the extents of a range of a snapshot of "size" bytes.  They are
 * given to add() one by one, in order, from offset on; perhaps not all of
 * the range, but at least one, and the last may go beyond the range.
 * add() returns 0, or -1 to stop.
 */
extern int request_extents (struct client *c, uint64_t snapshot,
                            uint64_t count, uint64_t offset, uint64_t size,
                            int (*add) (void *opaque, uint64_t offset,
                                        uint64_t length, uint32_t type),
                            void *opaque);

/* Discard a range: it will not be read any more. */
extern int request_discard (struct client *c, uint64_t snapshot,
                            uint64_t count, uint64_t offset);

/* Prefetch a range. */
extern int request_cache (struct client *c, uint64_t snapshot,
                          uint64_t count, uint64_t offset);

/* Ask how the snapshot can be read without asking.  ENOTSUP if it cannot. */
extern int request_direct (struct client *c, uint64_t snapshot,
                           struct cbw_direct *direct);

/* Run a control request (CREATE, or DROP of the snapshot): *rq is sent, and
 * overwritten with the reply.
 */
extern int request_control (struct client *c, enum cbw_request_kind kind,
                            uint64_t snapshot, struct cbw_control *rq);

#endif /* CBW_REQUEST_H */
