/* SPDX-License-Identifier: BSD-3-Clause */

/* This process as a client of a segment: attached, alive in the client
 * table, and able to tell if the filter is.
 */

#ifndef CBW_CLIENT_H
#define CBW_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "request/share.h"
#include "segment/segment.h"
#include "utils/error.h"

/* Entries of the client table below this are for all, the others for clients
 * that make control requests only.
 */
#define CLIENTS_FOR_ALL (CBW_NR_CLIENTS - CBW_CONTROL_CLIENTS)

struct client {
  struct segment segment;
  uint32_t owner;               /* tag of our slots */
  uint64_t server_timeout_ns;   /* how long to wait for a server that died */

  /* Of the slots that our threads hold, but for control requests: all, and
   * those for each snapshot (by its id; two may share one).
   */
  struct share share;
  struct share snapshots[CBW_NR_SNAPSHOTS];

  /* How often slot i has been claimed here: tells a thread whose slot was
   * taken back from another of ours that has it now.
   */
  _Atomic (uint32_t) claims[CBW_NR_SLOTS];
};

/* Attach to the segment at "path" as "name" (for people), waiting up to
 * wait_ns for a live server to have published it; "control": to make
 * control requests, and no others.  0, or -1 with the error set.  After the
 * last fork: the child would keep us alive.
 */
extern int client_attach (struct client *c, const char *path,
                          const char *name, bool control, uint64_t wait_ns,
                          struct error *e);

/* As client_attach, but only look and let go again: before the fork,
 * while there is a person to read the message.
 */
extern int client_probe (const char *path, uint64_t wait_ns,
                         struct error *e);

extern void client_detach (struct client *c);

/* Is the filter alive? */
extern bool client_server_alive (const struct client *c);

/* The filter is dead: wait for another to take the segment over, as long
 * as the client's timeout allows; *waited_since is when the caller first
 * found it dead (monotonic, 0: now).  Returns false if time is up.
 */
extern bool client_wait_server (const struct client *c,
                                uint64_t *waited_since);

#endif /* CBW_CLIENT_H */
