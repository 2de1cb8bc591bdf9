/* SPDX-License-Identifier: BSD-3-Clause */

/* The request list: slots that go round
 *
 *   FREE -> CLAIMED -> SUBMITTED -> RUNNING -> DONE -> FREE
 *        (1)        (2)          (3)        (4)     (5)
 *
 * (1), (2) and (5) are made by the client that owns the slot, (3) and (4)
 * by a service thread of the filter.  Each is one compare-and-swap of the
 * state word, which carries the owner too, so a slot always has exactly
 * one side that may touch its request, reply and buffer.  The swaps that
 * hand the slot over, (2) and (4), are releases, and seeing them is an
 * acquire: the plain fields and the buffer follow.
 *
 * A client may die anywhere: the filter reaps slots whose owner is gone
 * (slots_reap), but never one in RUNNING, which a thread of its own still
 * writes to.  The server may die anywhere: the next one runs what is
 * SUBMITTED or was RUNNING again (slots_recover); every request can be
 * repeated.
 *
 * A client may be stopped, and go on after any time.  What it has not taken
 * the reply from for a second is taken back if slots are scarce, so
 * that those who are stopped do not keep others from reading.  So a client
 * that has copied a reply out must prove that the slot was its own until
 * then: (5) succeeds.  If not it throws the copy away and asks again.  Nothing
 * else is taken back from a client that lives: in CLAIMED it writes to the
 * request, and if it went on there after the slot has become another's, that
 * one would be answered what it did not ask.
 *
 * A client that will not wait any longer abandons its slot.  It cannot
 * free it in SUBMITTED or RUNNING, however dead the server looked a moment
 * ago: a new one may be writing to the buffer by now.  So it disowns the
 * slot, and whichever server comes to it frees it.
 *
 * Nobody sleeps through a ring.  A client sets the pending bit, then
 * reads idle_threads; a service thread raises idle_threads, then reads
 * pending.  Both are sequentially consistent, so at least one sees the
 * other.  Between that and the sleep the futex compares "submitted".
 *
 * Not every ring wakes a thread.  While a thread that was woken has yet to
 * look ("waking"), another ring wakes none: that thread will find both slots.
 * A thread that takes a slot and sees another rings for that one.
 *
 * The owner tag holds the client's index and the low bits of its
 * incarnation, so that a new client in the same entry does not own its
 * predecessor's slots.
 */

#ifndef CBW_SLOTS_H
#define CBW_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"

enum slot_state {
  SLOT_FREE = 0,
  SLOT_CLAIMED = 1,
  SLOT_SUBMITTED = 2,
  SLOT_RUNNING = 3,
  SLOT_DONE = 4,
};

/* Slots below this are for all requests, the others for control only. */
#define SLOTS_FOR_ALL (CBW_NR_SLOTS - CBW_CONTROL_SLOTS)

static inline bool
slot_is_for_control (unsigned i)
{
  return i >= SLOTS_FOR_ALL;
}

/* A client's share, and what it may use of that for one snapshot, whose
 * target may hang: then the rest is left for others.
 */
#define SLOTS_PER_CLIENT 16
#define SLOTS_PER_SNAPSHOT 12

/* If fewer than this are free, slots are scarce. */
#define SLOTS_FEW 8
#define SLOTS_FEW_FOR_CONTROL 2

/* How long a client may leave a reply lying when slots are scarce. */
#define SLOT_PATIENCE UINT64_C (1000000000) /* ns */

#define SLOT_STATE_MASK 0x7fu
#define SLOT_WAITED 0x80u       /* the owner sleeps on the word */
#define SLOT_OWNER_SHIFT 8
#define SLOT_OWNER_NONE 0u      /* disowned */

/* The tag of client i in its incarnation: 24 bits, never 0. */
static inline uint32_t
slot_owner (unsigned client, uint32_t incarnation)
{
  return ((client | incarnation * CBW_NR_CLIENTS) & 0x7fffffu) | 0x800000u;
}

/* Which client a tag names. */
static inline unsigned
slot_owner_client (uint32_t owner)
{
  return owner % CBW_NR_CLIENTS;
}

/* Is it the tag of the client that has the entry now? */
static inline bool
slot_owner_is_current (const struct cbw_map *m, uint32_t owner)
{
  const unsigned i = slot_owner_client (owner);

  return owner == slot_owner (i, atomic_load (&map_client (m, i)->incarnation));
}

/* The tag of the owner of slot i. */
extern uint32_t slot_get_owner (const struct cbw_map *m, unsigned i);

/* ---- The client's side ---- */

/* Claim a free slot; for a control request also one that is kept for those.
 * Returns its index, or -1 if there is none.
 */
extern int slot_claim (const struct cbw_map *m, uint32_t owner, bool control);

/* Sleep until a slot may be free, or timeout_ns.  "seen" is the value of
 * doorbell->freed from before the last slot_claim that failed.
 */
extern void slot_wait_free (const struct cbw_map *m, uint32_t seen,
                            uint64_t timeout_ns);

/* Hand a claimed slot, with its request filled in, to the filter.  It is
 * certain to be looked at only after slots_ring.
 */
extern void slot_submit (const struct cbw_map *m, unsigned i, uint32_t owner);

/* Slots were submitted: see that a service thread looks at them. */
extern void slots_ring (const struct cbw_map *m);

enum slot_wait {
  SLOT_WAIT_DONE,               /* the reply is there */
  SLOT_WAIT_TIMEOUT,            /* not yet */
  SLOT_WAIT_LOST,               /* the slot is not ours any more */
};

/* Wait for the reply in slot i, which the caller has submitted, for at most
 * timeout_ns.
 */
extern enum slot_wait slot_wait (const struct cbw_map *m, unsigned i,
                                 uint32_t owner, uint64_t timeout_ns);

/* The reply has been copied out of slot i: give the slot back.  Returns false
 * if it was not in DONE and ours any more: then the copy may be of anything.
 * (If true, it was DONE and of this owner.  That the reply is not one to
 * another thread of the same client is for the client to tell.)
 */
extern bool slot_finish (const struct cbw_map *m, unsigned i, uint32_t owner);

/* Give slot i back, whatever its state, if it is still ours. */
extern void slot_abandon (const struct cbw_map *m, unsigned i,
                          uint32_t owner);

/* ---- The filter's side ---- */

/* Take one submitted slot into RUNNING, looking from *cursor on, which
 * each service thread keeps for itself so that no slot starves; see that
 * another thread comes if there are more.  Returns its index, or -1 if
 * there is none.
 */
extern int slot_take (const struct cbw_map *m, unsigned *cursor);

/* Sleep until slots may be submitted, or timeout_ns. */
extern void slots_wait_submitted (const struct cbw_map *m,
                                  uint64_t timeout_ns);

/* How many slots does this owner have, in whatever state? */
extern unsigned slots_held (const struct cbw_map *m, uint32_t owner);

/* Are few slots free, of those that are for all requests? */
extern bool slots_are_scarce (const struct cbw_map *m);

/* Now and then: if slots are pending, wake a thread that sleeps all the same,
 * since the client that was to wake it has died.
 */
extern void slots_nudge (const struct cbw_map *m);

/* The reply is written: RUNNING -> DONE. */
extern void slot_complete (const struct cbw_map *m, unsigned i);

/* Free the slots of owners that are gone.  alive() tells if the client
 * with that index lives.  Returns how many.
 */
extern unsigned slots_reap (const struct cbw_map *m,
                            bool (*alive) (void *opaque, unsigned client),
                            void *opaque);

/* What slots_take_back saw, and since when; all 0 at first. */
struct slots_seen {
  uint32_t word[CBW_NR_SLOTS];
  uint64_t since[CBW_NR_SLOTS]; /* monotonic ns */
};

/* Called several times a second: if slots are scarce, free those whose owner
 * has left the reply there for SLOT_PATIENCE.  Returns how many.
 */
extern unsigned slots_take_back (const struct cbw_map *m,
                                 struct slots_seen *seen, uint64_t now);

/* A new server, before it starts its threads: what its predecessor left
 * RUNNING is SUBMITTED again, nonsense is freed.
 */
extern void slots_recover (const struct cbw_map *m);

/* The same after a start of the host, which no client has outlived: frees all
 * slots.  A crash may have left a slot and a buffer of different requests.
 */
extern void slots_forget (const struct cbw_map *m);

/* Wake everybody who waits for a reply or for a free slot, so that they
 * look if the server is alive.
 */
extern void slots_wake_all (const struct cbw_map *m);

#endif /* CBW_SLOTS_H */
