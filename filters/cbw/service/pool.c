/* SPDX-License-Identifier: BSD-3-Clause */

/* The pool of service threads: how many there are, and which are stuck.  See
 * pool.h; docs/correctness.md, section 7, says why that is enough.
 */

#include <config.h>

#include "service/pool.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* Are there more than may be?  Then rest until called. */
static void
rest (struct pool *p)
{
  if (atomic_load (&p->active) <= atomic_load (&p->allowed))
    return;
  LOCK_FOR_SCOPE (&p->lock);
  if (p->active <= p->allowed)
    return;
  p->active--;
  p->resting++;
  while (p->calls == 0 && !p->stop)
    pthread_cond_wait (&p->called, &p->lock);
  if (p->calls > 0)             /* it is active again, and counted */
    p->calls--;
  p->resting--;
}

static void
pool_thread (void *opaque)
{
  struct pool *p = opaque;
  const unsigned index = atomic_fetch_add (&p->next_index, 1);

  while (!atomic_load (&p->stop)) {
    rest (p);
    if (!atomic_load (&p->stop))
      p->step (p->opaque, index);
  }
}

void
pool_init (struct pool *p, unsigned size,
           void (*step) (void *opaque, unsigned index), void *opaque)
{
  *p = (struct pool) {
    .step = step, .opaque = opaque, .size = size, .allowed = size,
  };
  thread_group_init (&p->group, pool_thread, p);
  pthread_mutex_init (&p->lock, NULL);
  cond_init (&p->called);
}

/* Have up to n more of them at work; the lock is held. */
static int
add_threads (struct pool *p, unsigned n)
{
  int r;

  for (; n > 0; --n) {
    if (p->resting > p->calls) {
      p->calls++;
      pthread_cond_signal (&p->called);
    }
    else {
      r = thread_group_start (&p->group, p->group.started + 1);
      if (r != 0)
        return r;
    }
    p->active++;
  }
  return 0;
}

int
pool_start (struct pool *p)
{
  LOCK_FOR_SCOPE (&p->lock);
  return add_threads (p, p->size);
}

void
pool_begin (struct pool *p, unsigned index, uint64_t tag)
{
  atomic_store (&p->threads[index].tag, tag);
  atomic_store (&p->threads[index].since, now_monotonic_ns ());
}

void
pool_end (struct pool *p, unsigned index)
{
  atomic_store (&p->threads[index].since, 0);
}

/* How many threads have been busy with "tag" for longer than that?  0 is any
 * tag.
 */
static unsigned
count_busy (const struct pool *p, uint64_t tag, uint64_t now, uint64_t longer)
{
  unsigned i, n = 0;
  uint64_t since;

  for (i = 0; i < THREAD_GROUP_MAX; ++i) {
    since = atomic_load (&p->threads[i].since);
    n += since != 0 && now > since && now - since > longer &&
      (tag == 0 || atomic_load (&p->threads[i].tag) == tag);
  }
  return n;
}

static unsigned
count_stuck (const struct pool *p, uint64_t now)
{
  unsigned i, n = 0;

  if (count_busy (p, 0, now, POOL_STUCK_AFTER) == 0)
    return 0;
  for (i = 0; i < THREAD_GROUP_MAX; ++i)
    n += atomic_load (&p->threads[i].since) != 0 &&
      count_busy (p, atomic_load (&p->threads[i].tag), now,
                  POOL_STUCK_AFTER) > 0;
  return n;
}

static bool
is_many (const struct pool *p, uint64_t tag, uint64_t now)
{
  return count_busy (p, tag, now, POOL_HUNG_AFTER) >= POOL_HUNG_MANY;
}

/* Take tags off the list that are not hung any more, and put one on that is.
 * Returns that, or 0.
 */
static uint64_t
look_for_hung (struct pool *p, uint64_t now)
{
  unsigned h, i, room = POOL_HUNG_TAGS;
  uint64_t tag;

  for (h = 0; h < POOL_HUNG_TAGS; ++h) {
    tag = atomic_load (&p->hung[h]);
    if (tag != 0 && !is_many (p, tag, now)) {
      atomic_store (&p->hung[h], 0);
      tag = 0;
    }
    if (tag == 0)
      room = h;
  }
  if (room == POOL_HUNG_TAGS ||
      count_busy (p, 0, now, POOL_HUNG_AFTER) < POOL_HUNG_MANY)
    return 0;
  for (i = 0; i < THREAD_GROUP_MAX; ++i) {
    tag = atomic_load (&p->threads[i].tag);
    if (tag != 0 && !pool_is_hung (p, tag) && is_many (p, tag, now)) {
      atomic_store (&p->hung[room], tag);
      return tag;
    }
  }
  return 0;
}

uint64_t
pool_look (struct pool *p, uint64_t now, unsigned waiting)
{
  const unsigned allowed = (unsigned)
    min_u64 (p->size + count_stuck (p, now), THREAD_GROUP_MAX);

  {
    LOCK_FOR_SCOPE (&p->lock);
    p->allowed = allowed;
    if (p->active < allowed && !p->stop)    /* if one cannot be started: later */
      add_threads (p, (unsigned) min_u64 (allowed - p->active, waiting));
  }
  return look_for_hung (p, now);
}

bool
pool_is_hung (const struct pool *p, uint64_t tag)
{
  unsigned h;

  for (h = 0; h < POOL_HUNG_TAGS; ++h)
    if (atomic_load_explicit (&p->hung[h], memory_order_relaxed) == tag)
      return tag != 0;
  return false;
}

void
pool_stop (struct pool *p)
{
  LOCK_FOR_SCOPE (&p->lock);
  atomic_store (&p->stop, true);
  pthread_cond_broadcast (&p->called);
}

bool
pool_join (struct pool *p, uint64_t until)
{
  return thread_group_join (&p->group, until);
}

void
pool_free (struct pool *p)
{
  thread_group_free (&p->group);
  pthread_cond_destroy (&p->called);
  pthread_mutex_destroy (&p->lock);
}
