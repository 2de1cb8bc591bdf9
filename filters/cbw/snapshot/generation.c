/* SPDX-License-Identifier: BSD-3-Clause */

/* The chain's generation: the writer's side of a sequence counter. */

#include <config.h>

#include <assert.h>
#include <stddef.h>

#include "snapshot/generation.h"
#include "utils/cleanup.h"

void
generation_init (struct generation *g)
{
  pthread_mutex_init (&g->lock, NULL);
  g->value = 0;
  g->shared = NULL;
}

void
generation_destroy (struct generation *g)
{
  pthread_mutex_destroy (&g->lock);
}

void
generation_attach (struct generation *g, _Atomic (uint64_t) *shared)
{
  const uint64_t left = atomic_load (shared);

  LOCK_FOR_SCOPE (&g->lock);
  g->value = left + left % 2;
  g->shared = shared;
}

/* The lock is held. */
static void
add (struct generation *g, unsigned n)
{
  g->value += n;
  if (g->shared)
    atomic_store (g->shared, g->value);
  /* Who sees what the caller stores next also sees the new value.  Pairs with
   * the reader's fence before its second look.
   */
  atomic_thread_fence (memory_order_release);
}

void
generation_begin (struct generation *g)
{
  LOCK_FOR_SCOPE (&g->lock);
  assert (g->value % 2 == 0);
  add (g, 1);
}

void
generation_end (struct generation *g)
{
  LOCK_FOR_SCOPE (&g->lock);
  assert (g->value % 2 == 1);
  add (g, 1);
}

void
generation_bump (struct generation *g)
{
  LOCK_FOR_SCOPE (&g->lock);
  add (g, 2);
}

uint64_t
generation_value (struct generation *g)
{
  LOCK_FOR_SCOPE (&g->lock);
  return g->value;
}
