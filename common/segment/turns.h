/* SPDX-License-Identifier: BSD-3-Clause */

/* Large reads of snapshots take turns while guests write: those of all clients
 * that read by themselves, and those of the server.
 *
 * Who copies a whole view has several large reads in flight all the time,
 * and the kernel lets threads that copy so much run on for milliseconds: on
 * a machine with few processors guests' writes wait for these, though they
 * share no lock.  So while there are such writes one large read is served at
 * a time, with a short pause after it.  The copy is slower for that, and
 * only for as long as guests write.
 *
 * A turn is a lease, which ends by itself: a word of the segment says when, in
 * monotonic time.  Anybody may write anything there, or be stopped in its
 * turn; so a value is believed for as long as a turn may last, from now, and
 * no read waits for longer.
 *
 *   turn:  0 --begin--> t + TURNS_LEASE --end--> 0
 *                         |      ^
 *                         `------' the lease is over, or means nothing:
 *                                  another's
 */

#ifndef CBW_TURNS_H
#define CBW_TURNS_H

#include <stdint.h>

#include "segment/layout.h"
#include "utils/clock.h"

/* Reads of at least so many bytes take turns. */
#define TURNS_LARGE (64 * 1024)

/* How long a turn lasts, and how long a read waits for its own, at most. */
#define TURNS_LEASE (20 * NS_PER_MS)

/* Before a read of so many bytes: wait for its turn, no longer than
 * TURNS_LEASE.  Returns what to give to turns_end; 0 if the read needs no turn.
 */
extern uint64_t turns_begin (const struct cbw_map *m, uint64_t length);

/* Call it after the read.  It leaves the turn alone if another read has taken
 * it meanwhile.
 */
extern void turns_end (const struct cbw_map *m, uint64_t turn);

#endif /* CBW_TURNS_H */
