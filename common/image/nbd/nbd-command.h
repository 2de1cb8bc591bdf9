/* SPDX-License-Identifier: BSD-3-Clause */

/* A request in flight over a connection, and the inside of a connection,
 * which only nbd-command.c and nbd-conn.c know.  Each request goes
 *
 *   nbd_command_init (c, &cmd);
 *   cookie = nbd_aio_pwrite (c->nbd, ..., NBD_COMPLETION (&cmd), 0);
 *   return nbd_command_finish (c, &cmd, cookie);
 */

#ifndef CBW_NBD_COMMAND_H
#define CBW_NBD_COMMAND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/nbd/nbd-conn.h"

/* A request in flight; on the stack of the thread that waits for it. */
struct nbd_command {
  struct nbd_command *next;     /* of those that wait, last come first */
  struct nbd_conn *conn;
  pthread_t thread;
  pthread_cond_t wake;          /* done, or to be the leader */
  uint64_t until;               /* of now_monotonic_ns: then it is given up */
  _Atomic (bool) done;
  int err;
};

/* Locks: libnbd has one of its own around each of its functions, and holds
 * it while it calls nbd_command_completed; "lock" comes after that one.  So
 * no function of libnbd is called with "lock" held.
 */
struct nbd_conn {
  struct nbd_handle *nbd;
  int fd;                       /* the socket: a duplicate of libnbd's, which
                                 * closes its own when it likes */
  int kick;                     /* eventfd: wakes the leader */
  _Atomic (uint64_t) started, ended; /* requests */

  pthread_mutex_t lock;         /* for the rest */
  struct nbd_command *waiting;  /* but for the leader */
  struct nbd_command *leader;   /* or NULL */
};

/* Begin a request: its time runs from here. */
extern void nbd_command_init (struct nbd_conn *c, struct nbd_command *cmd);

/* The command was handed to libnbd, which gave it a cookie, or not (-1).
 * Wait for the reply.  Returns 0 or an errno.
 */
extern int nbd_command_finish (struct nbd_conn *c, struct nbd_command *cmd,
                               int64_t cookie);

/* For libnbd to call, with its lock: the reply to a command is there, or the
 * connection has ended.
 */
extern int nbd_command_completed (void *cmd, int *error);

#define NBD_COMPLETION(cmd)                                             \
  (nbd_completion_callback) {                                           \
    .callback = nbd_command_completed, .user_data = (cmd)               \
  }

#endif /* CBW_NBD_COMMAND_H */
