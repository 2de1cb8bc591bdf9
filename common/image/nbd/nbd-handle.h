/* SPDX-License-Identifier: BSD-3-Clause */

/* libnbd's handle: connected, asked what the export is, and moved on when
 * its socket is ready.  What many threads do with one is in nbd-conn.h.
 */

#ifndef CBW_NBD_HANDLE_H
#define CBW_NBD_HANDLE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "utils/error.h"

struct nbd_handle;              /* libnbd.h */

/* What the server says of the export. */
struct nbd_info {
  uint64_t size;                /* bytes */
  uint32_t minimum_block;       /* a power of two */
  uint32_t maximum_payload;     /* bytes of data in one request */
  bool read_only, can_flush, can_trim, can_zero, can_fast_zero, can_extents,
    multi_conn;
};

/* Connect to the URI, or if it is NULL over the socket fd, which is taken
 * over.  Gives up when now_monotonic_ns () is "until", or "cancel" (a file
 * descriptor) becomes readable.  Fills in *info.  Returns the handle, or NULL
 * with the error set.
 */
extern struct nbd_handle *nbd_handle_open (const char *uri, int fd,
                                           uint64_t until, int cancel,
                                           struct nbd_info *info,
                                           struct error *e);

/* Say goodbye, if it can be sent at once, and free the handle. */
extern void nbd_handle_close (struct nbd_handle *nbd);

/* Is the connection at its end? */
extern bool nbd_handle_ended (struct nbd_handle *nbd);

/* What to poll for so that the handle can go on; fd is its socket. */
extern struct pollfd nbd_handle_poll (struct nbd_handle *nbd, int fd);

/* Polled: read or write what the socket is ready for, without waiting.  One
 * thread at a time polls a handle and calls this.
 */
extern void nbd_handle_notify (struct nbd_handle *nbd,
                               const struct pollfd *p);

#endif /* CBW_NBD_HANDLE_H */
