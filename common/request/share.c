/* SPDX-License-Identifier: BSD-3-Clause */

/* A share of something, and waiting for room in it: see share.h. */

#include <config.h>

#include "request/share.h"
#include "utils/futex.h"

bool
share_take (struct share *s, unsigned max)
{
  unsigned n = atomic_load (&s->held);

  while (n < max)
    if (atomic_compare_exchange_weak (&s->held, &n, n + 1))
      return true;
  return false;
}

void
share_give (struct share *s)
{
  atomic_fetch_sub (&s->held, 1);
  atomic_fetch_add (&s->room, 1);
  if (atomic_load (&s->waiters) > 0)
    futex_wake (&s->room, 1);
}

bool
share_wait (struct share *s, uint32_t seen, uint64_t timeout_ns)
{
  int r;

  atomic_fetch_add (&s->waiters, 1);
  r = futex_wait (&s->room, seen, timeout_ns);
  atomic_fetch_sub (&s->waiters, 1);
  return r == 0;
}
