/* SPDX-License-Identifier: BSD-3-Clause */

/* This process as a client of a segment: attached, alive in the client
 * table, and able to tell if the filter is.
 */

#ifndef CBW_CLIENT_H
#define CBW_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "segment.h"

/* Slots that one client may hold: one that was stopped (SIGSTOP) must not
 * starve the others.
 */
#define CLIENT_SLOTS_MAX 32

struct client {
  struct segment segment;
  uint32_t owner;               /* tag of our slots */
  uint64_t server_timeout_ns;   /* how long to wait for a server that died */
  _Atomic (unsigned) slots;     /* held now */
};

/* Attach to the segment at "path" as "name" (for people), waiting up to
 * wait_ns for a live server to have published it.  0, or -1 with the
 * error set.  After the last fork: the child would keep us alive.
 */
extern int client_attach (struct client *c, const char *path,
                          const char *name, uint64_t wait_ns,
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
