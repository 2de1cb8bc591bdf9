/* SPDX-License-Identifier: BSD-3-Clause */

/* A share: how many of something the threads of this process may hold at a
 * time.  Threads that wait for room are woken one by one.
 *
 * No thread sleeps through a gift.  The giver lowers "held", raises "room",
 * then looks at "waiters".  The waiter has read "room" before it found the
 * share used up; it raises "waiters", then sleeps only while "room" is as it
 * was.
 */

#ifndef CBW_SHARE_H
#define CBW_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct share {
  _Atomic (unsigned) held;
  _Atomic (uint32_t) room;      /* futex: +1 each time there is some */
  _Atomic (unsigned) waiters;   /* about to sleep on it */
};

static inline void
share_init (struct share *s)
{
  atomic_init (&s->held, 0);
  atomic_init (&s->room, 0);
  atomic_init (&s->waiters, 0);
}

/* Take one if fewer than "max" are held. */
extern bool share_take (struct share *s, unsigned max);

/* Give one back. */
extern void share_give (struct share *s);

/* Sleep until there may be room.  "seen" is the value of s->room from before
 * the last share_take that failed.  Returns false if that took timeout_ns.
 */
extern bool share_wait (struct share *s, uint32_t seen, uint64_t timeout_ns);

#endif /* CBW_SHARE_H */
