/* SPDX-License-Identifier: BSD-3-Clause */

/* All that stands between an image and its server at one time: a few
 * connections, and the server's process if it was started for them.  It is
 * not repaired: when a connection ends, all of it is thrown away as soon as
 * nobody uses it any more, and another is made.
 */

#ifndef CBW_NBD_LINK_H
#define CBW_NBD_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/nbd/nbd-address.h"
#include "image/nbd/nbd-child.h"
#include "image/nbd/nbd-conn.h"
#include "utils/error.h"

#define NBD_LINK_CONNS 4

struct nbd_link {
  unsigned refs;                /* under the lock of the image */
  struct nbd_child child;       /* pid 0: none */
  struct nbd_info info;
  unsigned nr;
  struct nbd_conn *conns[NBD_LINK_CONNS];
};

/* Connect, as nbd_conn_open does.  NULL with the error set if it fails. *hurry
 * must outlive the link: see nbd_child_stop.
 */
extern struct nbd_link *nbd_link_open (const struct nbd_address *a,
                                       uint64_t until, int cancel,
                                       const _Atomic (bool) *hurry,
                                       struct error *e);

/* Close it; waits for the end of a command that was started, as
 * nbd_child_stop does.
 */
extern void nbd_link_close (struct nbd_link *link);

/* The connection to be used for the next request: the first that nobody
 * uses, or the one with the fewest requests in flight.
 */
extern struct nbd_conn *nbd_link_pick (const struct nbd_link *link);

/* As of nbd_conn: of the connection to be used next, which is a system
 * call if nobody uses it, and of all.
 */
extern bool nbd_link_alive (const struct nbd_link *link);
extern void nbd_link_abort (const struct nbd_link *link);

#endif /* CBW_NBD_LINK_H */
