/* SPDX-License-Identifier: BSD-3-Clause */

/* The gate: one atomic add on the way in and one on the way out, while it is
 * open.
 */

#include <config.h>

#include <errno.h>

#include "guest/gate.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

#define ENTERED (UINT64_C (1) << 32)

static _Atomic (unsigned) next_stripe;
static _Thread_local unsigned my_stripe
  __attribute__ ((tls_model ("initial-exec"))); /* 1 + stripe, 0: none yet */

void
gate_init (struct gate *g)
{
  unsigned i;

  for (i = 0; i < GATE_STRIPES; ++i)
    atomic_init (&g->stripes[i].word, 0);
  atomic_init (&g->closed, 0);
  pthread_mutex_init (&g->lock, NULL);
  cond_init (&g->opened);
  cond_init (&g->left);
  g->until = 0;
}

void
gate_destroy (struct gate *g)
{
  pthread_cond_destroy (&g->left);
  pthread_cond_destroy (&g->opened);
  pthread_mutex_destroy (&g->lock);
}

/* The lock is held. */
static void
open_now (struct gate *g)
{
  atomic_store (&g->closed, 0);
  pthread_cond_broadcast (&g->opened);
}

/* Is it closed?  It opens if its lease is over.  The lock is held. */
static bool
still_closed (struct gate *g)
{
  if (atomic_load (&g->closed) && time_left (g->until) == 0)
    open_now (g);                                                   /* H6 */
  return atomic_load (&g->closed);
}

unsigned
gate_enter (struct gate *g)
{
  struct timespec until;

  if (my_stripe == 0)
    my_stripe = 1 + atomic_fetch_add_explicit (&next_stripe, 1,
                                               memory_order_relaxed) %
      GATE_STRIPES;

  for (;;) {
    atomic_fetch_add (&g->stripes[my_stripe - 1].word, ENTERED + 1);
    if (!atomic_load (&g->closed))
      return my_stripe - 1;

    gate_leave (g, my_stripe - 1);
    LOCK_FOR_SCOPE (&g->lock);
    while (still_closed (g)) {
      until = cond_until (g->until);
      pthread_cond_timedwait (&g->opened, &g->lock, &until);
    }
  }
}

void
gate_leave (struct gate *g, unsigned stripe)
{
  atomic_fetch_sub (&g->stripes[stripe].word, 1);
  if (atomic_load (&g->closed)) {
    LOCK_FOR_SCOPE (&g->lock);
    pthread_cond_broadcast (&g->left);
  }
}

static uint32_t
gate_inside (struct gate *g)
{
  uint32_t sum = 0;
  unsigned i;

  for (i = 0; i < GATE_STRIPES; ++i)
    sum += (uint32_t) atomic_load (&g->stripes[i].word);
  return sum;
}

uint32_t
gate_entered (struct gate *g)
{
  uint32_t sum = 0;
  unsigned i;

  for (i = 0; i < GATE_STRIPES; ++i)
    sum += (uint32_t) (atomic_load_explicit (&g->stripes[i].word,
                                             memory_order_relaxed) >> 32);
  return sum;
}

bool
gate_close (struct gate *g, uint64_t timeout_ns, uint64_t lease_ns)
{
  const uint64_t start = now_monotonic_ns ();
  const struct timespec until =
    cond_until (start + min_u64 (timeout_ns, lease_ns));
  int r = 0;

  LOCK_FOR_SCOPE (&g->lock);
  g->until = start + lease_ns;
  atomic_store (&g->closed, 1);                                     /* H1 */
  while (gate_inside (g) > 0) {
    if (r == ETIMEDOUT) {
      open_now (g);
      return false;
    }
    r = pthread_cond_timedwait (&g->left, &g->lock, &until);
  }
  return still_closed (g);
}

void
gate_open (struct gate *g)
{
  LOCK_FOR_SCOPE (&g->lock);

  open_now (g);
}

bool
gate_is_closed (struct gate *g)
{
  LOCK_FOR_SCOPE (&g->lock);

  return still_closed (g);
}

bool
gate_keep (struct gate *g)
{
  LOCK_FOR_SCOPE (&g->lock);

  if (!still_closed (g))
    return false;
  g->until = UINT64_MAX;
  return true;
}

bool
gate_quiesce (struct gate *g, uint64_t timeout_ns)
{
  const uint64_t until = now_monotonic_ns () + timeout_ns;
  const struct timespec pause = { .tv_nsec = 100000 };
  unsigned i;

  /* A stripe that is empty at one moment has none of those any more. */
  for (i = 0; i < GATE_STRIPES; ++i)
    while ((uint32_t) atomic_load (&g->stripes[i].word) > 0) {      /* T4 */
      if (time_left (until) == 0)
        return false;
      nanosleep (&pause, NULL);
    }
  return true;
}
