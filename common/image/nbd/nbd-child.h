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

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "utils/error.h"

struct nbd_child {
  pid_t pid;
  const _Atomic (bool) *hurry;  /* it is to end soon: see nbd_child_stop */
  char dir[32];                 /* of the socket; "" once it is removed */
};

/* Start argv[0], looked for in $PATH.  It inherits our stderr, and nothing
 * else but the socket.  If the calling thread ends, the server is told to
 * end, too (SIGTERM).  Gives up when now_monotonic_ns () is "until", or
 * "cancel" (a file descriptor) becomes readable: the program may be on a file
 * system that hangs.  0, or -1 with the error set.  "hurry" is filled in.
 */
extern int nbd_child_start (struct nbd_child *child, char *const argv[],
                            uint64_t until, int cancel, struct error *e);

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
 * It may have much to write back, so it is not killed by force: one that
 * hangs is left to itself.  But from when *hurry is true it has one second;
 * then it is killed, with its process group, and waited for one second more.
 */
extern void nbd_child_stop (struct nbd_child *child);

#endif /* CBW_NBD_CHILD_H */
