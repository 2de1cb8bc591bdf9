/* SPDX-License-Identifier: BSD-3-Clause */

/* Large reads of a snapshot take turns while guests write.
 *
 * Who copies a whole view has several large reads in flight all the time,
 * and the kernel lets threads that copy so much run on for milliseconds: on
 * a machine with few processors guests' writes wait for these, though they
 * share no lock.  So while there are such writes one large read is served at
 * a time, with a short pause after it.  The copy is slower for that, and
 * only for as long as guests write.
 */

#ifndef CBW_TURNS_H
#define CBW_TURNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/gate.h"

struct turns {
  struct gate *gate;            /* tells when guests write */
  _Atomic (uint64_t) next_look; /* monotonic ns */
  _Atomic (uint32_t) entered;   /* as the gate said then */
  _Atomic (bool) guests;        /* it had changed */

  pthread_mutex_t lock;
  pthread_cond_t ended;
  uint64_t turn, turns;         /* whose it is, 0 nobody's, and how many there
                                 * have been; under the lock */
};

extern void turns_init (struct turns *t, struct gate *gate);
extern void turns_destroy (struct turns *t);

/* Before a read of so many bytes: wait for its turn.  The one before may hang:
 * if it takes too long it loses its turn, so that one read waits for it, and
 * not each.  Returns what to give to turns_end; 0 if the read needs no turn.
 */
extern uint64_t turns_begin (struct turns *t, uint64_t length);
extern void turns_end (struct turns *t, uint64_t turn);

#endif /* CBW_TURNS_H */
