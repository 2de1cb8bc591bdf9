/* SPDX-License-Identifier: BSD-3-Clause */

/* Large reads take turns while guests write, and only then. */

#include <config.h>

#include <pthread.h>

#include "service/turns.h"
#include "unit.h"

#define LARGE (256 * 1024)

static struct gate gate;
static struct turns turns;

static void
start (void)
{
  gate_init (&gate);
  turns_init (&turns, &gate);
}

static void
end (void)
{
  turns_destroy (&turns);
  gate_destroy (&gate);
}

static void
guest_writes (void)
{
  gate_leave (&gate, gate_enter (&gate));
}

/* It is looked at now and then if guests write. */
static uint64_t
get_turn (void)
{
  uint64_t turn = 0;
  unsigned n;

  for (n = 0; n < 10 && turn == 0; ++n) {
    guest_writes ();
    turn = turns_begin (&turns, LARGE);
    if (turn == 0)
      usleep (5000);
  }
  CHECK (turn != 0);
  return turn;
}

static void
test_no_guest (void)
{
  start ();
  CHECK (!turns_begin (&turns, LARGE));
  usleep (10000);
  CHECK (!turns_begin (&turns, LARGE));
  end ();
}

static void
test_guest (void)
{
  uint64_t turn;

  start ();
  turn = get_turn ();
  CHECK (!turns_begin (&turns, 4096)); /* small ones need none */
  turns_end (&turns, turn);
  usleep (10000);               /* and when no guest has written since */
  CHECK (!turns_begin (&turns, LARGE));
  end ();
}

static _Atomic (unsigned) inside, overlaps, had;

static void *
reader (void *opaque)
{
  unsigned n, now;
  uint64_t turn;

  (void) opaque;
  for (n = 0; n < 50; ++n) {
    guest_writes ();
    turn = turns_begin (&turns, LARGE);
    if (turn == 0)
      continue;
    now = atomic_fetch_add (&inside, 1) + 1;
    overlaps += now > 1;
    had++;
    usleep (100);
    atomic_fetch_sub (&inside, 1);
    turns_end (&turns, turn);
  }
  return NULL;
}

static void
test_one_at_a_time (void)
{
  pthread_t threads[4];
  unsigned i;

  start ();
  for (i = 0; i < 4; ++i)
    CHECK (pthread_create (&threads[i], NULL, reader, NULL) == 0);
  for (i = 0; i < 4; ++i)
    pthread_join (threads[i], NULL);
  CHECK (had > 10);
  CHECK (overlaps <= had / 8);  /* of those that were held up themselves */
  end ();
}

/* One that never ends is waited for once: then it has lost its turn, and what
 * it says when it is back at last counts for nothing.
 */
static void
test_stuck (void)
{
  uint64_t stuck, next, last;

  start ();
  stuck = get_turn ();
  guest_writes ();
  usleep (5000);
  next = turns_begin (&turns, LARGE);
  CHECK (next != 0 && next != stuck);
  turns_end (&turns, stuck);
  CHECK_EQ (turns.turn, next);
  turns_end (&turns, next);
  CHECK_EQ (turns.turn, 0);
  last = get_turn ();
  turns_end (&turns, last);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_no_guest);
  RUN (test_guest);
  RUN (test_one_at_a_time);
  RUN (test_stuck);
  return unit_end ();
}
