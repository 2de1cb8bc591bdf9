/* SPDX-License-Identifier: BSD-3-Clause */

/* The held gate: guests' changes have drained, and none begins.
 *
 *   begin ----> held ----> commit ----> committed
 *    |            |
 *    v            v
 *  refused       end, or the lease is over
 *
 * A hold may be begun in one thread and committed in another, with no lock
 * held in between.  It has a number, so that a commit which comes too late is
 * never taken for one of a later hold.  It ends by itself when its lease is
 * over: a guest that waits at the gate sees to that.  The watch ends it when
 * its holder, a client, is gone (end_orphan_hold in lifecycle.h).
 *
 * There is one hold at a time.  Another is refused at once, as a thread that
 * waited for it with e->control held would keep the commit from coming.
 */

#ifndef CBW_HOLD_H
#define CBW_HOLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "copy/copy.h"
#include "guest/gate.h"
#include "utils/error.h"

struct hold {
  struct gate *gate;
  struct copier *copier;        /* to say what is waited for */
  pthread_mutex_t lock;         /* for the rest; the gate's comes after it */
  enum {
    HOLD_NONE,
    HOLD_CLOSING,               /* guests' changes drain */
    HOLD_HELD,                  /* or its lease is over */
    HOLD_COMMITTING,            /* nothing ends it but hold_committed */
  } state;
  uint64_t number;              /* of the latest hold */
  uint32_t holder;              /* the client's tag; 0: this server */
  uint64_t since;               /* when it was begun, in monotonic ns */
  bool quit;
};

extern void hold_init (struct hold *h, struct gate *gate,
                       struct copier *copier);
extern void hold_destroy (struct hold *h);

/* Close the gate, and wait until guests' changes have drained: for no longer
 * than hold_ns, or if that is 0, a few times for CBW_HOLD_DEFAULT, between
 * which guests continue.  No guest waits for longer than lease_ns.  "holder"
 * is the tag of the client that the hold is for, or 0 if it is this server's
 * own.  0, and *number for the calls below; or -1 with the error set and the
 * gate open: EBUSY if a change did not end in time, or if there is a hold;
 * ESHUTDOWN if the server ends.
 *
 * Callers that hold e->control wait for each other's begin instead of being
 * refused.  It must not be held from here to a commit in another thread.
 */
extern int hold_begin (struct hold *h, uint64_t hold_ns, uint64_t lease_ns,
                       uint32_t holder, uint64_t *number,
                       struct error *error);

/* Is there still the hold of that number?  0, or -1 with ESTALE.  It may end
 * any time, so this is only to fail early.
 */
extern int hold_check (struct hold *h, uint64_t number, struct error *error);

/* When this returns 0 no guest has entered since the hold began, and none does
 * before hold_committed.  The caller, who holds e->control, changes the chain
 * in a moment, and calls that.  -1 with ESTALE if the hold is over, or is
 * committed already.
 */
extern int hold_commit (struct hold *h, uint64_t number, struct error *error);

/* After hold_commit: guests continue.  Returns how long ago the hold was
 * begun, in ns.
 */
extern uint64_t hold_committed (struct hold *h);

/* Give up the hold: guests continue.  Any thread may do so at any time:
 * nothing happens if that hold is over, or being committed.
 */
extern void hold_end (struct hold *h, uint64_t number);

/* Is there a hold of a client's?  Then *number and *holder are set. */
extern bool hold_of_client (struct hold *h, uint64_t *number,
                            uint32_t *holder);

/* The server ends: end a client's hold, and refuse others. */
extern void hold_stop (struct hold *h);

#endif /* CBW_HOLD_H */
