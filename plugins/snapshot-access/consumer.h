/* SPDX-License-Identifier: BSD-3-Clause */

/* The one client that reads a snapshot with discard=read: what it has read is
 * discarded.
 */

#ifndef CBW_CONSUMER_H
#define CBW_CONSUMER_H

#include <stdint.h>

#include "coverage.h"
#include "request/client.h"
#include "segment/entry.h"

struct consumer {
  struct client *client;
  uint64_t id;                  /* of the snapshot */
  unsigned index;               /* of its entry */
  struct coverage coverage;
};

/* Become it, of all processes; if another is, wait a second for it to go.  0,
 * or -1: then nbdkit_error has been called.  The client stays.
 */
extern int consumer_start (struct consumer *c, struct client *client,
                           const struct snapshot_info *info);

/* A range has been read: discard what is due.  Returns 0 or an errno.  Many
 * threads may call this at once.
 */
extern int consumer_has_read (struct consumer *c, uint32_t count,
                              uint64_t offset);

/* Discard what has been read and is still due, and let another client be it.
 */
extern void consumer_stop (struct consumer *c);

#endif /* CBW_CONSUMER_H */
