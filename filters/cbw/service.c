/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "clock.h"
#include "commands.h"
#include "futex.h"
#include "lifecycle.h"
#include "liveness.h"
#include "service.h"
#include "slots.h"
#include "view.h"

/* How often dead clients are looked for. */
#define REAP_INTERVAL (NS_PER_SEC / 2)

/* A request, as it was when it was looked at. */
struct request {
  uint32_t kind;
  uint64_t snapshot;
  uint64_t offset;
  uint64_t length;
};

static struct request
copy_request (const struct cbw_slot *slot)
{
  /* Once: the client could write while we look. */
  const volatile struct cbw_slot *v = slot;

  return (struct request) {
    .kind = v->kind,
    .snapshot = v->snapshot,
    .offset = v->offset,
    .length = v->length,
  };
}

static int
run_request (struct service *s, const struct request *rq, uint32_t owner,
             void *buf, uint32_t *count)
{
  switch (rq->kind) {
  case CBW_REQUEST_READ:
    if (rq->length > CBW_SLOT_BUFFER_SIZE)
      return EINVAL;
    return view_read (s->engine, &s->source, rq->snapshot, buf, rq->length,
                      rq->offset);
  case CBW_REQUEST_EXTENTS:
    return view_extents (s->engine, &s->source, rq->snapshot, rq->length,
                         rq->offset, s->info.can_extents, buf, count);
  case CBW_REQUEST_CACHE:
    if (rq->length > UINT32_MAX)
      return EINVAL;
    if (!s->info.can_cache)
      return 0;                 /* a hint that has no use here */
    return view_cache (s->engine, &s->source, rq->snapshot, rq->length,
                       rq->offset);
  case CBW_REQUEST_DISCARD:
    return view_discard (s->engine, rq->snapshot, rq->length, rq->offset);
  case CBW_REQUEST_CREATE:
  case CBW_REQUEST_BACKUP:
    return command_create (s->engine, s->segment, s->info.size, owner,
                           rq->kind == CBW_REQUEST_BACKUP, buf);
  case CBW_REQUEST_DROP:
    return command_drop (s->engine, s->segment, rq->snapshot, buf);
  case CBW_REQUEST_JOB:
    return command_job (s->engine, rq->snapshot, buf);
  default:
    return EINVAL;
  }
}

static void
run_slot (struct service *s, unsigned i)
{
  const struct cbw_map *m = &s->segment->map;
  struct cbw_slot *slot = map_slot (m, i);
  const struct request rq = copy_request (slot);
  const bool turn = rq.kind == CBW_REQUEST_READ &&
    turns_begin (&s->turns, rq.length);
  uint32_t count = 0;
  int r;

  r = run_request (s, &rq, slot_get_owner (m, i), map_buffer (m, i), &count);
  slot->status = r;
  slot->count = r == 0 ? count : 0;
  slot_complete (m, i);

  atomic_fetch_add_explicit (&map_header (m)->requests, 1,
                             memory_order_relaxed);
  if (r == 0 && rq.kind == CBW_REQUEST_READ)
    atomic_fetch_add_explicit (&map_header (m)->read_bytes, rq.length,
                               memory_order_relaxed);
  if (turn)
    turns_end (&s->turns);
}

static bool
client_alive (void *opaque, unsigned client)
{
  const struct service *s = opaque;

  return liveness_client (s->segment->fd, client);
}

/* Look for dead clients if it is time; one thread at a time does. */
static void
reap (struct service *s)
{
  const uint64_t now = now_monotonic_ns ();
  uint64_t due = atomic_load_explicit (&s->next_reap, memory_order_relaxed);
  unsigned n;

  if (now < due ||
      !atomic_compare_exchange_strong (&s->next_reap, &due,
                                       now + REAP_INTERVAL))
    return;
  /* It may wait, for a drop that waits for guests' copies: then one thread
   * does, and the others go on serving.
   */
  if (atomic_exchange (&s->reaping, true))
    return;
  check_targets (s->engine);
  drop_orphans (s->engine, s->segment, client_alive, s);
  release_complete (s->engine);
  n = slots_reap (&s->segment->map, client_alive, s);
  if (n > 0) {
    atomic_fetch_add_explicit (&map_header (&s->segment->map)->reaped, n,
                               memory_order_relaxed);
    nbdkit_debug ("cbw: took %u slots from clients that are gone", n);
  }
  atomic_store (&s->reaping, false);
}

static void
service_thread (void *opaque)
{
  struct service *s = opaque;
  const struct cbw_map *m = &s->segment->map;
  unsigned cursor = 0;
  int i;

  while (!atomic_load (&s->stop)) {
    i = slot_take (m, &cursor);
    if (i >= 0)
      run_slot (s, (unsigned) i);
    reap (s);                   /* not between waking and looking */
    if (i < 0)
      slots_wait_submitted (m, REAP_INTERVAL);
  }
}

int
service_start (struct service *s, unsigned nr_threads)
{
  int r;

  atomic_init (&s->stop, false);
  atomic_init (&s->next_reap, 0);
  atomic_init (&s->reaping, false);
  turns_init (&s->turns, &s->engine->gate);
  thread_group_init (&s->threads, service_thread, s);
  r = thread_group_start (&s->threads, nr_threads);
  if (r != 0) {
    errno = r;
    nbdkit_error ("cbw: cannot start a service thread: %m");
    service_stop (s);
    return -1;
  }
  return 0;
}

void
service_stop (struct service *s)
{
  struct cbw_doorbell *bell = map_doorbell (&s->segment->map);

  atomic_store (&s->stop, true);
  atomic_fetch_add (&bell->submitted, 1);
  futex_wake (&bell->submitted, INT_MAX);
  thread_group_join (&s->threads);
  turns_destroy (&s->turns);
}
