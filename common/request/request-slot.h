/* SPDX-License-Identifier: BSD-3-Clause */

/* A slot of the request list, as one thread of a client uses it for one
 * request: claimed within the client's shares, submitted, and given back with
 * the proof that it was ours until then.  For request.c.
 */

#ifndef CBW_REQUEST_SLOT_H
#define CBW_REQUEST_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "request/client.h"

/* What is asked for. */
struct asked {
  enum cbw_request_kind kind;
  uint64_t snapshot, length, offset;
};

/* A slot of ours. */
struct held {
  unsigned slot;
  uint32_t claim;               /* our number of this claim of it */
};

enum outcome {
  REPLIED,
  LOST,                         /* the slot: ask again */
  GONE,                         /* the server */
};

/* Claim a slot.  With "wait", wait for one: the caller holds none, so that
 * threads do not wait for each other in a circle.  Returns false if there is
 * none, or after waiting if the server is gone.
 */
extern bool request_slot_claim (struct client *c, const struct asked *a,
                                bool wait, struct held *h);

/* Put the request into it and hand it over; slots_ring is for the caller. */
extern void request_slot_submit (struct client *c, const struct asked *a,
                                 const struct held *h);

/* Wait for the reply.  If there is one *status is its errno, or 0, the slot is
 * ours still, or seems so, and request_slot_finish is to be called.  Else it is
 * not.
 */
extern enum outcome request_slot_wait (struct client *c,
                                       const struct asked *a,
                                       const struct held *h, int *status);

/* The reply has been copied: give the slot back.  Returns false if it was not
 * ours any more when that was done; then the copy is worth nothing.
 */
extern bool request_slot_finish (struct client *c, const struct asked *a,
                                 const struct held *h);

#endif /* CBW_REQUEST_SLOT_H */
