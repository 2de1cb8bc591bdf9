/* SPDX-License-Identifier: BSD-3-Clause */

/* The watch: a thread that looks ten times a second if service goes on.  It
 * waits for nothing but the time, so that whatever hangs is noticed; what may
 * wait is done by the crew, one thread at most for each such duty.
 */

#include <config.h>

#include <inttypes.h>

#include "below/log.h"
#include "lifecycle/cool.h"
#include "lifecycle/lifecycle.h"
#include "segment/liveness.h"
#include "service/service.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

#define LOOK_INTERVAL (100 * NS_PER_MS)

/* How often dead clients and lost targets are looked for. */
#define REAP_INTERVAL (500 * NS_PER_MS)

/* How often regions that guests do not change any more get cold. */
#define COOL_INTERVAL (2 * NS_PER_SEC)

static bool
client_alive (void *opaque, unsigned client)
{
  const struct service *s = opaque;

  return liveness_client (s->segment->fd, client);
}

static void
look_at_targets (struct service *s)
{
  check_targets (s->engine);
}

/* Snapshots that leave by themselves. */
static void
look_for_leavers (struct service *s)
{
  drop_orphans (s->engine, s->segment, client_alive, s);
  release_complete (s->engine, QUIET_HOLD);
}

static void
cool (struct service *s)
{
  cool_round (s->engine);
}

static void
duty_task (struct crew_task *task, void *owner)
{
  struct duty *d = (struct duty *) task;
  struct service *s = owner;

  if (crew_is_stopping (&s->crew))
    return;
  d->run (s);
  atomic_store (&d->busy, false);
}

static void
do_duties (struct service *s, uint64_t now)
{
  struct duty *d;

  for (d = s->duties; d < s->duties + NR_DUTIES; ++d) {
    if (now < d->next)
      continue;
    d->next = now + d->interval;
    if (!atomic_exchange (&d->busy, true) &&
        crew_run (&s->crew, &d->task) != 0)
      atomic_store (&d->busy, false); /* no thread: next time */
  }
}

static void
reap (struct service *s)
{
  const unsigned n = slots_reap (&s->segment->map, client_alive, s);

  if (n > 0) {
    atomic_fetch_add_explicit (&map_header (&s->segment->map)->reaped, n,
                               memory_order_relaxed);
    log_debug ("cbw: took %u slots from clients that are gone", n);
  }
}

static void
say_hung (struct service *s, uint64_t id)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&s->engine->chain);
  const int i = chain_find (chain, id);

  if (i >= 0)
    log_error ("cbw: snapshot \"%s\": %d reads have waited for more than a "
               "second: its target, or the disk, does not answer; others "
               "fail until it does", chain->snaps[i]->fixed.name,
               POOL_HUNG_MANY);
}

/* How many slots wait that no thread is about to take? */
static unsigned
count_waiting (const struct cbw_map *m)
{
  if (atomic_load (&map_header (m)->idle_threads) > 0)
    return 0;
  return (unsigned)
    __builtin_popcountll (atomic_load (&map_doorbell (m)->pending));
}

/* Have guests changed the disk since the last look?  For those who read much,
 * in this process and in others.  A page that is not changed need not be
 * written to disk.
 */
static void
show_guests (struct service *s)
{
  struct cbw_header *h = map_header (&s->segment->map);
  const uint32_t entered = gate_entered (&s->engine->gate);
  const uint32_t write = entered != s->entered;

  s->entered = entered;
  if (atomic_load_explicit (&h->guests_write, memory_order_relaxed) != write)
    atomic_store_explicit (&h->guests_write, write, memory_order_relaxed);
}

static void
watch_look (struct service *s)
{
  const struct cbw_map *m = &s->segment->map;
  const uint64_t now = now_monotonic_ns ();
  uint64_t hung;
  unsigned n;

  show_guests (s);
  hung = pool_look (&s->pool, now, count_waiting (m));
  if (hung != 0)
    say_hung (s, hung);
  slots_nudge (m);
  end_orphan_hold (s->engine, s->segment, client_alive, s);
  n = slots_take_back (m, &s->seen, now);
  if (n > 0) {
    atomic_fetch_add_explicit (&map_header (m)->reaped, n,
                               memory_order_relaxed);
    log_debug ("cbw: took %u slots back from clients that do not look at "
               "the reply", n);
  }
  do_duties (s, now);
  if (now >= s->next_reap) {
    s->next_reap = now + REAP_INTERVAL;
    reap (s);
  }
}

static void
watch_thread (void *opaque)
{
  struct service *s = opaque;
  struct timespec until;

  LOCK_FOR_SCOPE (&s->watch_lock);
  while (!s->watch_stop) {
    pthread_mutex_unlock (&s->watch_lock);
    watch_look (s);
    until = cond_until (now_monotonic_ns () + LOOK_INTERVAL);
    pthread_mutex_lock (&s->watch_lock);
    if (!s->watch_stop)
      pthread_cond_timedwait (&s->watch_wake, &s->watch_lock, &until);
  }
}

void
watch_init (struct service *s)
{
  static void (*const run[NR_DUTIES]) (struct service *) = {
    look_at_targets, look_for_leavers, cool
  };
  const uint64_t intervals[NR_DUTIES] = {
    REAP_INTERVAL, REAP_INTERVAL,
    cbw_debug_cool_ms ? (uint64_t) cbw_debug_cool_ms * NS_PER_MS :
    COOL_INTERVAL
  };
  unsigned i;

  pthread_mutex_init (&s->watch_lock, NULL);
  cond_init (&s->watch_wake);
  thread_group_init (&s->watch, watch_thread, s);
  for (i = 0; i < NR_DUTIES; ++i)
    s->duties[i] = (struct duty) {
      .task.run = duty_task, .run = run[i], .interval = intervals[i]
    };
}

int
watch_start (struct service *s)
{
  return thread_group_start (&s->watch, 1);
}

void
watch_stop (struct service *s)
{
  LOCK_FOR_SCOPE (&s->watch_lock);
  s->watch_stop = true;
  pthread_cond_signal (&s->watch_wake);
}

bool
watch_join (struct service *s, uint64_t until)
{
  return thread_group_join (&s->watch, until);
}

void
watch_free (struct service *s)
{
  thread_group_free (&s->watch);
  pthread_cond_destroy (&s->watch_wake);
  pthread_mutex_destroy (&s->watch_lock);
}
