/* SPDX-License-Identifier: BSD-3-Clause */

/* The gate that every guest write, zero and trim passes.
 *
 * While it is closed nobody is inside, so the thread that closed it may change
 * what the guest path reads without locks (the chain).  It is closed for a
 * time, its lease: then a guest that waits at it opens it.  So guests need no
 * other thread to be let in again.
 *
 * Entering and leaving an open gate is one uncontended atomic add each: the
 * count of those inside is spread over stripes, one or a few threads to each.
 *
 * Why nobody slips in: who enters adds to its stripe, then reads
 * "closed"; who closes sets "closed", then reads the stripes.  All four
 * are sequentially consistent, so at least one sees the other.
 */

#ifndef CBW_GATE_H
#define CBW_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define GATE_STRIPES 16

struct gate {
  struct {
    _Alignas (64) _Atomic (uint64_t) word; /* low half: how many are inside;
                                            * high: how many have been */
  } stripes[GATE_STRIPES];
  _Alignas (64) _Atomic (uint32_t) closed;
  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t opened;
  pthread_cond_t left;
  uint64_t until;               /* while it is closed: the lease's end, in
                                 * monotonic ns */
};

extern void gate_init (struct gate *g);
extern void gate_destroy (struct gate *g);

/* Enter, waiting while the gate is closed and its lease lasts.  Returns the
 * stripe, which belongs into gate_leave.  A thread must not enter twice.
 */
extern unsigned gate_enter (struct gate *g);
extern void gate_leave (struct gate *g, unsigned stripe);

/* How many have entered so far, modulo 2^32. */
extern uint32_t gate_entered (struct gate *g);

/* Close the gate and wait until all who are inside have left, but no longer
 * than timeout_ns: then it is open again.  Returns whether it is closed.  It
 * opens by itself lease_ns after it began to close, so no guest waits for
 * longer than that.  One closer at a time (the caller's lock).
 */
extern bool gate_close (struct gate *g, uint64_t timeout_ns,
                        uint64_t lease_ns);
extern void gate_open (struct gate *g);

/* Wait until all threads that are inside now have left; others enter and leave
 * meanwhile.  Waits no longer than timeout_ns, and returns whether they have.
 */
extern bool gate_quiesce (struct gate *g, uint64_t timeout_ns);

/* Is the gate closed, and its lease not over? */
extern bool gate_is_closed (struct gate *g);

/* Keep the gate closed until gate_open, whatever the lease was.  Returns false
 * if the lease is over: then the gate is open, and guests may have entered.
 */
extern bool gate_keep (struct gate *g);

#endif /* CBW_GATE_H */
