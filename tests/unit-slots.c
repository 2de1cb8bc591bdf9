/* SPDX-License-Identifier: BSD-3-Clause */

/* The request list: every step alone.  (unit-slots-busy.c: many at once.) */

#include <config.h>

#include "segment-env.h"
#include "unit.h"
#include "utils/clock.h"

static struct segment segment;
static struct cbw_map *m = &segment.map;

static void
start (void)
{
  segment_env_start ();
  segment_env_serve (&segment, 1 << 20, 4096);
}

static void
end (void)
{
  segment_close (&segment, true);
  segment_env_end ();
}

static uint32_t
word (unsigned i)
{
  return atomic_load (&map_slot (m, i)->state);
}

static enum slot_state
state (unsigned i)
{
  return word (i) & SLOT_STATE_MASK;
}

static bool
alive (void *opaque, unsigned client)
{
  return *(uint64_t *) opaque >> client & 1;
}

static const uint32_t me = 1 << 6 | 3; /* client 3, incarnation 1 */

static void
test_round (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  CHECK (i >= 0);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  CHECK_EQ (slot_take (m, &cursor), -1);
  slot_submit (m, i, me);
  slots_ring (m);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_TIMEOUT);
  CHECK_EQ (slot_take (m, &cursor), i);
  CHECK_EQ (state (i), SLOT_RUNNING);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_TIMEOUT);
  slot_complete (m, i);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_DONE);
  slot_abandon (m, i, me);
  CHECK_EQ (slots_used (m), 0);
  end ();
}

/* A thread waits for its reply; the slot is taken back, and another thread of
 * the same client claims it.  The first must not touch it: the second could
 * not submit it, and would wait for ever.
 */
static void
test_claimed_again (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  CHECK (i >= 0);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_complete (m, i);
  CHECK (slot_finish (m, i, me)); /* as the server does it */
  cursor = 0;
  CHECK_EQ (slot_claim (m, me, false), i);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  slot_submit (m, i, me);
  CHECK_EQ (state (i), SLOT_SUBMITTED);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_complete (m, i);
  CHECK (slot_finish (m, i, me));
  CHECK_EQ (slots_used (m), 0);
  end ();
}

static void
test_full (void)
{
  uint32_t seen;
  unsigned n;

  start ();
  for (n = 0; n < SLOTS_FOR_ALL; ++n)
    CHECK_EQ (slot_claim (m, me, false), n);
  seen = atomic_load (&map_doorbell (m)->freed);
  CHECK_EQ (slot_claim (m, me, false), -1);
  slot_wait_free (m, seen, NS_PER_MS); /* in vain */
  slot_abandon (m, 17, me);
  slot_wait_free (m, seen, 100 * NS_PER_SEC); /* missed no ring */
  CHECK_EQ (slot_claim (m, me, false), 17);
  end ();
}

/* The last slots are for control requests, which take others while there
 * are some.
 */
static void
test_kept_for_control (void)
{
  uint32_t seen;
  unsigned n;

  start ();
  CHECK_EQ (slot_claim (m, me, true), 0);
  for (n = 1; n < SLOTS_FOR_ALL; ++n)
    CHECK_EQ (slot_claim (m, me, false), n);
  CHECK_EQ (slot_claim (m, me, false), -1);
  for (; n < CBW_NR_SLOTS; ++n)
    CHECK_EQ (slot_claim (m, me, true), n);
  CHECK_EQ (slot_claim (m, me, true), -1);
  seen = atomic_load (&map_doorbell (m)->freed);
  slot_abandon (m, 61, me);
  slot_wait_free (m, seen, 100 * NS_PER_SEC); /* missed no ring */
  CHECK_EQ (slot_claim (m, me, false), -1);
  CHECK_EQ (slot_claim (m, me, true), 61);
  end ();
}

/* The reply has been copied, and the slot was ours until then, or not. */
static void
test_finish (void)
{
  const uint32_t other = 2 << 6 | 3;
  uint32_t seen;

  start ();
  slots_set (m, 5, SLOT_DONE, me);
  seen = atomic_load (&map_doorbell (m)->freed);
  CHECK (!slot_finish (m, 5, other));
  CHECK_EQ (state (5), SLOT_DONE);
  CHECK (slot_finish (m, 5, me));
  CHECK_EQ (word (5), SLOT_FREE);
  CHECK_EQ (atomic_load (&map_doorbell (m)->freed), seen + 1);
  CHECK (!slot_finish (m, 5, me)); /* taken back */
  CHECK_EQ (word (5), SLOT_FREE);
  slots_set (m, 5, SLOT_CLAIMED, me);
  CHECK (!slot_finish (m, 5, me)); /* another thread's of ours */
  slots_set (m, 5, SLOT_DONE, other);
  CHECK (!slot_finish (m, 5, me));
  CHECK_EQ (state (5), SLOT_DONE);
  end ();
}

/* Fill the slots [0, n): of each three one is CLAIMED, RUNNING, DONE. */
static void
fill_slots (unsigned n)
{
  static const enum slot_state states[] = {
    SLOT_CLAIMED, SLOT_RUNNING, SLOT_DONE
  };
  unsigned i;

  for (i = 0; i < n; ++i)
    slots_set (m, i, states[i % 3], me);
}

/* Replies that are left lying are taken back if slots are scarce; nothing
 * else is.
 */
static void
test_take_back (void)
{
  const unsigned many = SLOTS_FOR_ALL - SLOTS_FEW;
  struct slots_seen seen = { { 0 }, { 0 } };
  uint64_t now = 7 * NS_PER_SEC;
  unsigned i;

  start ();
  fill_slots (many);
  CHECK (!slots_are_scarce (m));
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  now += 10 * SLOT_PATIENCE;
  CHECK_EQ (slots_take_back (m, &seen, now), 0); /* there are enough */
  CHECK_EQ (slots_used (m), many);

  slots_set (m, many, SLOT_SUBMITTED, me);
  slots_set (m, many + 1, SLOT_SUBMITTED, me);
  CHECK (slots_are_scarce (m));
  slots_set (m, 2, SLOT_DONE, 2 << 6 | 3); /* a new one, just now */
  CHECK_EQ (slots_take_back (m, &seen, now), many / 3 - 1);
  for (i = 0; i < many; ++i)
    CHECK_EQ (state (i), i == 2 ? SLOT_DONE :
              i % 3 == 0 ? SLOT_CLAIMED : i % 3 == 1 ? SLOT_RUNNING :
              SLOT_FREE);
  CHECK_EQ (state (many), SLOT_SUBMITTED);

  fill_slots (many);            /* again */
  slots_set (m, 2, SLOT_DONE, 2 << 6 | 3);
  now += SLOT_PATIENCE - 1;
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  CHECK_EQ (slots_take_back (m, &seen, now + 1), 1);
  CHECK_EQ (word (2), SLOT_FREE); /* the one that was there before */
  CHECK_EQ (slots_take_back (m, &seen, now + SLOT_PATIENCE), many / 3 - 1);
  end ();
}

/* Of those kept for control too, if few of them are free. */
static void
test_take_back_control (void)
{
  struct slots_seen seen = { { 0 }, { 0 } };
  uint64_t now = 7 * NS_PER_SEC;

  start ();
  slots_set (m, 0, SLOT_DONE, me);
  slots_set (m, SLOTS_FOR_ALL, SLOT_DONE, me);
  slots_set (m, SLOTS_FOR_ALL + 1, SLOT_DONE, me);
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  now += SLOT_PATIENCE;
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  slots_set (m, SLOTS_FOR_ALL + 3, SLOT_RUNNING, me);
  CHECK_EQ (slots_take_back (m, &seen, now), 2);
  CHECK_EQ (state (0), SLOT_DONE);
  CHECK_EQ (slots_used (m), 2);
  end ();
}

static void
test_held (void)
{
  const uint32_t other = 2 << 6 | 3;

  start ();
  CHECK_EQ (slots_held (m, me), 0);
  fill_slots (9);
  slots_set (m, 4, SLOT_DONE, other);
  slots_set (m, 60, SLOT_SUBMITTED, me);
  CHECK_EQ (slots_held (m, me), 9);
  CHECK_EQ (slots_held (m, other), 1);
  end ();
}

/* No slot starves: all are taken before one is taken twice. */
static void
test_cursor (void)
{
  unsigned cursor = 0, n;
  uint64_t taken = 0;
  int i;

  start ();
  for (n = 0; n < CBW_NR_SLOTS; ++n)
    slot_submit (m, slot_claim (m, me, true), me);
  for (n = 0; n < CBW_NR_SLOTS; ++n) {
    i = slot_take (m, &cursor);
    CHECK (i >= 0 && !(taken >> i & 1));
    taken |= UINT64_C (1) << i;
    slot_complete (m, i);
    slot_abandon (m, i, me);
    slot_submit (m, slot_claim (m, me, true), me);
  }
  end ();
}

/* Only the owner's doings count. */
static void
test_not_mine (void)
{
  const uint32_t other = 2 << 6 | 3; /* the next client in that entry */
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, other);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  slot_abandon (m, i, other);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  CHECK (slot_wait (m, i, other, NS_PER_MS) == SLOT_WAIT_LOST);
  slot_abandon (m, i, me);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  CHECK_EQ (slot_take (m, &cursor), -1);
  end ();
}

/* Abandoned where the filter has it or may get it: it is not free for
 * others before the filter has let go of it.
 */
static void
test_abandon_submitted (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  slot_abandon (m, i, me);
  CHECK_EQ (state (i), SLOT_SUBMITTED);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (slots_used (m), 0);
  end ();
}

static void
test_abandon_running (void)
{
  unsigned cursor = 0;
  uint64_t all = UINT64_MAX;
  int i, j;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_abandon (m, i, me);
  CHECK_EQ (state (i), SLOT_RUNNING);
  j = slot_claim (m, me, false);
  CHECK (j >= 0 && j != i);
  CHECK_EQ (slots_reap (m, alive, &all), 1); /* j: no such client */
  slot_complete (m, i);
  CHECK_EQ (slots_used (m), 0);
  end ();
}

/* The server died, the client gives up, a new server comes; whatever the
 * order, the slot is free in the end and nobody else had it meanwhile.
 */
static void
test_abandon_and_recover (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i); /* and dies */
  slots_recover (m);
  CHECK_EQ (slot_take (m, &cursor), i); /* the new one runs it */
  slot_abandon (m, i, me);      /* for the client the server was dead */
  CHECK_EQ (state (i), SLOT_RUNNING);
  slot_complete (m, i);
  CHECK_EQ (slots_used (m), 0);

  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i); /* and dies */
  slot_abandon (m, i, me);
  slots_recover (m);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (slots_used (m), 0);
  end ();
}

/* What a server left: requests are run again, replies stay, nonsense
 * goes.
 */
static void
test_recover (void)
{
  unsigned cursor = 0, i;

  start ();
  slots_set (m, 0, SLOT_CLAIMED, me);
  slots_set (m, 1, SLOT_SUBMITTED, me);
  slots_set (m, 2, SLOT_RUNNING, me);
  slots_set (m, 3, SLOT_DONE, me);
  slots_set (m, 4, SLOT_FREE, me);
  for (i = 5; i < 20; ++i)
    slots_set (m, i, SLOT_DONE + 1 + i, me);
  atomic_fetch_or (&map_slot (m, 2)->state, SLOT_WAITED);
  atomic_store (&map_doorbell (m)->pending, UINT64_C (0xff00));
  atomic_store (&map_header (m)->idle_threads, 12345);

  slots_recover (m);
  CHECK_EQ (map_header (m)->idle_threads, 0);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  CHECK_EQ (state (3), SLOT_DONE);
  for (i = 4; i < CBW_NR_SLOTS; ++i)
    CHECK_EQ (word (i), SLOT_FREE);
  CHECK_EQ (slot_take (m, &cursor), 1);
  CHECK_EQ (slot_take (m, &cursor), 2);
  CHECK (word (2) & SLOT_WAITED); /* its owner still sleeps */
  CHECK_EQ (slot_take (m, &cursor), -1);
  end ();
}

static void
test_reap (void)
{
  uint64_t living = 1 << 3;
  unsigned cursor = 0;

  start ();
  map_client (m, 3)->incarnation = 1;
  map_client (m, 4)->incarnation = 9;
  slots_set (m, 0, SLOT_CLAIMED, slot_owner (3, 1)); /* alive */
  slots_set (m, 1, SLOT_CLAIMED, slot_owner (3, 0)); /* its predecessor */
  slots_set (m, 2, SLOT_SUBMITTED, slot_owner (4, 9)); /* dead */
  slots_set (m, 3, SLOT_RUNNING, slot_owner (4, 9));
  slots_set (m, 4, SLOT_DONE, slot_owner (4, 9));
  slots_set (m, 5, 0x55, slot_owner (4, 9));
  CHECK_EQ (slots_reap (m, alive, &living), 4);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  CHECK_EQ (state (3), SLOT_RUNNING); /* not while a thread has it */
  CHECK_EQ (slots_used (m), 2);
  slot_complete (m, 3);
  CHECK_EQ (slots_reap (m, alive, &living), 1);
  CHECK_EQ (slots_used (m), 1);

  /* A pending bit that was left behind does no harm. */
  atomic_store (&map_doorbell (m)->pending, UINT64_C (1) << 2 | 1);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  end ();
}

/* Owner tags have 24 bits, and different ones for different clients. */
static void
test_owner (void)
{
  CHECK (slot_owner (0, 1) != SLOT_OWNER_NONE);
  CHECK (slot_owner (5, 1) != slot_owner (5, 2));
  CHECK_EQ (slot_owner (63, UINT32_MAX), 0xffffff);
}

int
main (void)
{
  unit_start ();
  RUN (test_round);
  RUN (test_claimed_again);
  RUN (test_full);
  RUN (test_kept_for_control);
  RUN (test_finish);
  RUN (test_take_back);
  RUN (test_take_back_control);
  RUN (test_held);
  RUN (test_cursor);
  RUN (test_not_mine);
  RUN (test_abandon_submitted);
  RUN (test_abandon_running);
  RUN (test_abandon_and_recover);
  RUN (test_recover);
  RUN (test_reap);
  RUN (test_owner);
  return unit_end ();
}
