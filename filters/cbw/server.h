/* SPDX-License-Identifier: BSD-3-Clause */

/* The server of one segment: takes the segment, brings back the
 * snapshots it holds or makes the one asked for, and serves them.
 */

#ifndef CBW_SERVER_H
#define CBW_SERVER_H

#include <stdbool.h>

#include "below/source.h"
#include "guest/engine.h"
#include "params.h"
#include "segment/alive.h"
#include "segment/segment.h"
#include "service/service.h"

struct server {
  struct engine engine;
  struct segment segment;
  struct service service;
  struct alive alive;           /* for clients, of the segment */
  bool in_order;                /* by server_join: all that the targets were
                                 * given is on stable storage, or known to be
                                 * lost */
};

/* What can be told before the server forks and the disk is open: is the
 * segment ours to take, can the target be made?  0, or -1 after
 * nbdkit_error.
 */
extern int server_probe (const struct params *p);

/* Start serving the disk read through "source".  0, or -1 after
 * nbdkit_error, with nothing left behind that was not there before.
 */
extern int server_start (struct server *s, const struct params *p,
                         const struct source *source,
                         const struct source_info *info);

/* As in threads.h, when all guests are gone.  server_join flushes the
 * targets, too; it waits half a second at least.  If it returns false it has
 * said in the log what is stuck, and is not to be called again: then the
 * source, and this code, must stay until the process is gone.  server_free
 * wakes the clients; they find the segment left in order, or not.
 */
extern void server_stop (struct server *s);
extern bool server_join (struct server *s, uint64_t until);
extern void server_free (struct server *s);

#endif /* CBW_SERVER_H */
