/* SPDX-License-Identifier: BSD-3-Clause */

/* Large reads take turns while guests write, and only then. */

#include <config.h>

#include <pthread.h>

#include "turns.h"
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

/* It is looked at now and then. */
static bool
has_turn (void)
{
  unsigned n;

  for (n = 0; n < 10; ++n) {
    guest_writes ();
    if (turns_begin (&turns, LARGE))
      return true;
    usleep (5000);
  }
  return false;
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
  start ();
  CHECK (has_turn ());
  CHECK (!turns_begin (&turns, 4096)); /* small ones need none */
  turns_end (&turns);
  usleep (10000);               /* and when no guest has written since */
  CHECK (!turns_begin (&turns, LARGE));
  end ();
}

static _Atomic (unsigned) inside, most, had;

static void *
reader (void *opaque)
{
  unsigned n, now;

  (void) opaque;
  for (n = 0; n < 50; ++n) {
    guest_writes ();
    if (!turns_begin (&turns, LARGE))
      continue;
    now = atomic_fetch_add (&inside, 1) + 1;
    if (now > most)
      most = now;
    had++;
    usleep (100);
    atomic_fetch_sub (&inside, 1);
    turns_end (&turns);
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
  CHECK_EQ (most, 1);
  CHECK (had > 10);
  end ();
}

/* One that never ends does not stop the others. */
static void
test_stuck (void)
{
  start ();
  CHECK (has_turn ());
  guest_writes ();
  usleep (5000);
  CHECK (!turns_begin (&turns, LARGE));
  turns_end (&turns);
  CHECK (has_turn ());
  turns_end (&turns);
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
