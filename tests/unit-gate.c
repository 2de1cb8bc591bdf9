/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <pthread.h>
#include <stdbool.h>

#include "guest/gate.h"
#include "unit.h"
#include "utils/clock.h"

#define LONG (60 * NS_PER_SEC)

static struct gate gate;
static _Atomic (bool) passed;

static void
test_open (void)
{
  gate_init (&gate);
  gate_leave (&gate, gate_enter (&gate));
  CHECK (gate_close (&gate, LONG, LONG));         /* nobody inside: at once */
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
  CHECK (gate_close (&gate, LONG, LONG));
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
  CHECK (gate_close (&gate, LONG, LONG));
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
    CHECK (gate_close (&gate, LONG, LONG));
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
  CHECK (!gate_close (&gate, NS_PER_MS, LONG));
  pthread_create (&thread, NULL, enter_and_leave, NULL);
  pthread_join (thread, NULL);
  CHECK (atomic_load (&passed));
  gate_leave (&gate, stripe);
  CHECK (gate_close (&gate, NS_PER_MS, LONG));
  gate_open (&gate);
  gate_destroy (&gate);
}

/* The lease ends: the guests that wait open it, and what was closed cannot be
 * kept closed any more.
 */
static void
test_lease (void)
{
  const uint64_t start = now_monotonic_ns ();
  pthread_t threads[3];
  unsigned i;

  gate_init (&gate);
  CHECK (gate_close (&gate, LONG, 50 * NS_PER_MS));
  for (i = 0; i < 3; ++i)
    pthread_create (&threads[i], NULL, enter_and_leave, NULL);
  for (i = 0; i < 3; ++i)
    pthread_join (threads[i], NULL);
  CHECK (now_monotonic_ns () - start >= 50 * NS_PER_MS);
  CHECK (!gate_is_closed (&gate));
  CHECK (!gate_keep (&gate));
  gate_destroy (&gate);
}

/* Nobody waits: it is over all the same. */
static void
test_lease_alone (void)
{
  gate_init (&gate);
  CHECK (gate_close (&gate, LONG, NS_PER_MS));
  unit_give_time ();
  CHECK (!gate_keep (&gate));
  gate_leave (&gate, gate_enter (&gate));
  gate_destroy (&gate);
}

/* It bounds the draining, too. */
static void
test_lease_drain (void)
{
  unsigned stripe;

  gate_init (&gate);
  stripe = gate_enter (&gate);
  CHECK (!gate_close (&gate, LONG, NS_PER_MS));
  gate_leave (&gate, stripe);
  gate_destroy (&gate);
}

/* Kept closed, it stays so past the lease. */
static void
test_keep (void)
{
  pthread_t thread;
  uint64_t end;

  gate_init (&gate);
  atomic_store (&passed, false);
  CHECK (gate_close (&gate, LONG, NS_PER_SEC));
  end = now_monotonic_ns () + NS_PER_SEC;
  pthread_create (&thread, NULL, enter_and_leave, NULL);
  CHECK (gate_keep (&gate));
  while (now_monotonic_ns () <= end)
    unit_give_time ();
  CHECK (!atomic_load (&passed));
  CHECK (gate_is_closed (&gate));
  gate_open (&gate);
  pthread_join (thread, NULL);
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
  RUN (test_lease);
  RUN (test_lease_alone);
  RUN (test_lease_drain);
  RUN (test_keep);
  return unit_end ();
}
