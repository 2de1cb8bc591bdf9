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
#include "segment/segment.h"
#include "service/service.h"

struct server {
  struct engine engine;
  struct segment segment;
  struct service service;
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

/* Stop in good order: readers are told, targets flushed.  However much hangs,
 * it takes no longer than copier_patience_ns.  Returns false if a thread is
 * stuck that cannot be ended: then the source, and this code, must stay until
 * the process is gone.
 */
extern bool server_stop (struct server *s);

#endif /* CBW_SERVER_H */
