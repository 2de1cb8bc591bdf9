/* SPDX-License-Identifier: BSD-3-Clause */

/* An NBD server that is a child of this process, listening on a socket
 * that it is given (systemd's socket activation).
 *
 * libnbd can start one, too, but then it waits for its end without a time
 * limit, passes on the signal mask of whatever thread it is in, and leaves
 * it in our process group, where a Ctrl-C that is meant for us would end
 * the server before we have ended with it.
 */

#ifndef CBW_NBD_CHILD_H
#define CBW_NBD_CHILD_H

#include <sys/types.h>

#include "error.h"

struct nbd_child {
  pid_t pid;
  char dir[32];                 /* of the socket; "" once it is removed */
};

/* Start argv[0], looked for in $PATH.  It inherits our stderr, and nothing
 * else but the socket.  If the calling thread ends, the server is told to
 * end, too (SIGTERM).  0, or -1 with the error set.
 */
extern int nbd_child_start (struct nbd_child *child, char *const argv[],
                            struct error *e);

/* Connect to it.  Returns the socket, or -1 with the error set. */
extern int nbd_child_connect (const struct nbd_child *child,
                              struct error *e);

/* No further connections: remove the socket's name. */
extern void nbd_child_seal (struct nbd_child *child);

/* Has it ended?  Then *status is as from waitpid.  Only the caller of
 * nbd_child_start may ask, once it is true never again.
 */
extern int nbd_child_ended (struct nbd_child *child, int *status);

/* Tell it to end, and wait until it has; but no longer than ten seconds.
 * It may have much to write back, so it is never killed by force: one that
 * hangs is left to itself.
 */
extern void nbd_child_stop (struct nbd_child *child);

#endif /* CBW_NBD_CHILD_H */
