/* SPDX-License-Identifier: BSD-3-Clause */

/* One connection to an NBD server, used by many threads.
 *
 * A thread sends its request itself, and then one of those that wait is
 * the leader: it polls the socket and lets libnbd work, on behalf of all.
 * When the leader's own reply has come it makes another waiting thread
 * the leader.  So a thread alone is never woken by another, and no thread
 * is needed just for moving replies.
 *
 * Functions that run a request return 0 or an errno.  ENOTCONN says that the
 * connection has ended, and EPROTO that the server has broken the protocol;
 * no server can send one of the two.
 */

#ifndef CBW_NBD_CONN_H
#define CBW_NBD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/nbd/nbd-handle.h"
#include "utils/error.h"

struct nbd_conn;

/* How long one request may take, whatever the server sends meanwhile for it
 * or for others; then the connection is ended.  Tests set it.
 */
extern uint64_t nbd_conn_patience_ns;

/* Connect, as nbd_handle_open does.  NULL with the error set if it fails. */
extern struct nbd_conn *nbd_conn_open (const char *uri, int fd,
                                       uint64_t until, int cancel,
                                       struct nbd_info *info,
                                       struct error *e);

/* Say goodbye and close.  No request is in flight. */
extern void nbd_conn_close (struct nbd_conn *c);

/* End it, whatever is in flight, which then fails. */
extern void nbd_conn_abort (struct nbd_conn *c);

/* Does it still stand?  Looks at the socket if nobody uses it, without
 * waiting.
 */
extern bool nbd_conn_alive (struct nbd_conn *c);

/* How many requests are in flight. */
extern unsigned nbd_conn_load (const struct nbd_conn *c);

/* What such an errno means, in words; text is where to put them if they are
 * not there already.
 */
#define NBD_CONN_TEXT_MAX 128
extern const char *nbd_conn_text (int err, char text[NBD_CONN_TEXT_MAX]);

/* EPROTO if the reply did not bring every byte exactly once; then the
 * connection has been ended, and what the buffer holds is undefined.
 */
extern int nbd_conn_pread (struct nbd_conn *c, void *buf, size_t count,
                           uint64_t offset);
extern int nbd_conn_pwrite (struct nbd_conn *c, const void *buf, size_t count,
                            uint64_t offset);
/* "fast": EOPNOTSUPP if it is not faster than writing zeroes.  Only where
 * the server offers that (can_fast_zero).
 */
extern int nbd_conn_zero (struct nbd_conn *c, uint64_t count,
                          uint64_t offset, bool fast);
extern int nbd_conn_trim (struct nbd_conn *c, uint64_t count,
                          uint64_t offset);
extern int nbd_conn_flush (struct nbd_conn *c);

/* The first extent at offset: *length bytes, no more than count, which
 * read as zeroes or may be data.  EPROTO if the server's answer is
 * nonsense.
 */
extern int nbd_conn_extent (struct nbd_conn *c, uint64_t count,
                            uint64_t offset, uint64_t *length, bool *zero);

#endif /* CBW_NBD_CONN_H */
