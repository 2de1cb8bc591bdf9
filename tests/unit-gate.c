/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <pthread.h>
#include <stdbool.h>

#include "guest/gate.h"
#include "unit.h"
#include "utils/clock.h"

static struct gate gate;
static _Atomic (bool) passed;

static void
test_open (void)
{
  gate_init (&gate);
  gate_leave (&gate, gate_enter (&gate));
  CHECK (gate_close (&gate, 60 * NS_PER_SEC));           /* nobody inside: at once */
  gate_open (&gate);
  gate_leave (&gate, gate_enter (&gate));
  gate_destroy (&gate);
}

static void *
enter_and_leave (void *unused)
{
  unsigned stripe = gate_enter (&gate);

  (void) unused;
  atomic_store (&passed, true);
  gate_leave (&gate, stripe);
  return NULL;
}

/* Nobody enters while it is closed, and all do when it opens. */
static void
test_closed (void)
{
  pthread_t threads[3];
  unsigned i;

  gate_init (&gate);
  atomic_store (&passed, false);
  CHECK (gate_close (&gate, 60 * NS_PER_SEC));
  for (i = 0; i < 3; ++i)
    pthread_create (&threads[i], NULL, enter_and_leave, NULL);
  unit_give_time ();
  CHECK (!atomic_load (&passed));
  gate_open (&gate);
  for (i = 0; i < 3; ++i)
    pthread_join (threads[i], NULL);
  CHECK (atomic_load (&passed));
  gate_destroy (&gate);
}

static void *
close_it (void *unused)
{
  (void) unused;
  CHECK (gate_close (&gate, 60 * NS_PER_SEC));
  atomic_store (&passed, true);
  gate_open (&gate);
  return NULL;
}

/* Closing waits for who is inside, in whatever order they leave. */
static void
test_drain (void)
{
  pthread_t closer;
  unsigned stripe;

  gate_init (&gate);
  atomic_store (&passed, false);
  stripe = gate_enter (&gate);
  pthread_create (&closer, NULL, close_it, NULL);
  unit_give_time ();
  CHECK (!atomic_load (&passed));
  gate_leave (&gate, stripe);
  pthread_join (closer, NULL);
  CHECK (atomic_load (&passed));
  gate_destroy (&gate);
}

/* More threads than stripes go through while it closes and opens; what
 * is changed under the closed gate is read inside without a lock.
 */
#define GUESTS (GATE_STRIPES + 4)
#define CLOSINGS 150

static _Atomic (bool) stop;
static unsigned guarded[2];     /* equal whenever somebody is inside */

static void *
guest (void *unused)
{
  unsigned stripe;

  (void) unused;
  while (!atomic_load (&stop)) {
    stripe = gate_enter (&gate);
    CHECK_EQ (guarded[0], guarded[1]);
    gate_leave (&gate, stripe);
  }
  return NULL;
}

static void
test_many (void)
{
  pthread_t threads[GUESTS];
  unsigned i;

  gate_init (&gate);
  for (i = 0; i < GUESTS; ++i)
    pthread_create (&threads[i], NULL, guest, NULL);
  for (i = 0; i < CLOSINGS; ++i) {
    CHECK (gate_close (&gate, 60 * NS_PER_SEC));
    guarded[0]++;
    if (i % 16 == 0)
      usleep (100);
    guarded[1]++;
    gate_open (&gate);
  }
  atomic_store (&stop, true);
  for (i = 0; i < GUESTS; ++i)
    pthread_join (threads[i], NULL);
  gate_destroy (&gate);
}

/* Somebody stays inside: it opens again, and who came meanwhile gets in. */
static void
test_deadline (void)
{
  pthread_t thread;
  unsigned stripe;

  gate_init (&gate);
  atomic_store (&passed, false);
  stripe = gate_enter (&gate);
  CHECK (!gate_close (&gate, NS_PER_MS));
  pthread_create (&thread, NULL, enter_and_leave, NULL);
  pthread_join (thread, NULL);
  CHECK (atomic_load (&passed));
  gate_leave (&gate, stripe);
  CHECK (gate_close (&gate, NS_PER_MS));
  gate_open (&gate);
  gate_destroy (&gate);
}

int
main (void)
{
  unit_start ();
  RUN (test_open);
  RUN (test_deadline);
  RUN (test_closed);
  RUN (test_drain);
  RUN (test_many);
  return unit_end ();
}
