/* SPDX-License-Identifier: BSD-3-Clause */

/* The service threads: they take a slot, run what it asks for, and reply.
 * See service.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "below/log.h"
#include "lifecycle/lifecycle.h"
#include "request/client.h"
#include "segment/turns.h"
#include "service/serve-control.h"
#include "service/serve-direct.h"
#include "service/serve-read.h"
#include "service/service.h"
#include "utils/clock.h"
#include "utils/futex.h"

/* How long a thread sleeps that nobody wakes.  Nothing depends on it. */
#define SLEEP (10 * NS_PER_SEC)

static struct request
copy_request (const struct cbw_map *m, unsigned i)
{
  /* Once: the client could write while we look. */
  const volatile struct cbw_slot *v = map_slot (m, i);

  return (struct request) {
    .kind = v->kind,
    .owner = slot_get_owner (m, i),
    .snapshot = v->snapshot,
    .offset = v->offset,
    .length = v->length,
  };
}

/* The reply is there. */
static void
complete (struct service *s, unsigned i, const struct request *rq, int r,
          uint32_t count)
{
  const struct cbw_map *m = &s->segment->map;
  struct cbw_header *h = map_header (m);
  struct cbw_slot *slot = map_slot (m, i);

  slot->status = r;
  slot->count = r == 0 ? count : 0;
  slot_complete (m, i);

  atomic_fetch_add_explicit (&h->requests, 1, memory_order_relaxed);
  if (r == 0 && rq->kind == CBW_REQUEST_READ)
    atomic_fetch_add_explicit (&h->read_bytes, rq->length,
                               memory_order_relaxed);
}

/* ---- Control ---- */

static int
run_control (struct service *s, const struct request *rq, void *buf)
{
  switch (rq->kind) {
  case CBW_REQUEST_CREATE:
  case CBW_REQUEST_BACKUP:
    return serve_create (s->engine, s->segment, &s->source, rq->owner,
                         rq->kind == CBW_REQUEST_BACKUP, buf);
  case CBW_REQUEST_CHECKPOINT:
    return serve_checkpoint (s->engine, s->segment, &s->source, buf);
  case CBW_REQUEST_DROP:
    return serve_drop (s->engine, s->segment, rq->snapshot, buf);
  case CBW_REQUEST_JOB:
    return serve_job (s->engine, rq->snapshot, buf);
  default:
    return EINVAL;
  }
}

static void
control_task (struct crew_task *task, void *owner)
{
  /* Once the slot is completed it may come again, and the task with it. */
  const struct control_task t = *(struct control_task *) task;
  struct service *s = owner;
  int r;

  if (crew_is_stopping (&s->crew))
    return;                     /* it is for the next server */
  r = run_control (s, &t.rq, map_buffer (&s->segment->map, t.slot));
  atomic_fetch_sub (&s->nr_controls, 1);
  complete (s, t.slot, &t.rq, r, 0);
}

/* Give it to the crew. */
static void
hand_over (struct service *s, unsigned i, const struct request *rq)
{
  struct control_task *t = &s->controls[i];
  void *buf = map_buffer (&s->segment->map, i);
  struct error e;
  int r;

  *t = (struct control_task) {
    .task.run = control_task, .slot = i, .rq = *rq
  };
  if (atomic_fetch_add (&s->nr_controls, 1) < CONTROL_MAX) {
    r = crew_run (&s->crew, &t->task);
    if (r == 0 || r == ESHUTDOWN) /* the same */
      return;
    error_set_errno (&e, r, "cannot start a thread for the request");
  }
  else
    error_set (&e, EBUSY, "the server has %d requests to take, drop or control "
               "snapshots that have not ended; try again later", CONTROL_MAX);
  atomic_fetch_sub (&s->nr_controls, 1);
  complete (s, i, rq, serve_refuse (&e, buf), 0);
}

/* ---- Reading ---- */

/* Must the request be refused, whatever it asks for?  The errno, or 0. */
static int
check_manners (struct service *s, unsigned i, const struct request *rq)
{
  const struct cbw_map *m = &s->segment->map;

  if (rq->owner == SLOT_OWNER_NONE)
    return 0;                   /* nobody is there to see the reply */
  if (slot_is_for_control (i) ||
      slot_owner_client (rq->owner) >= CLIENTS_FOR_ALL)
    return EPERM;
  if (slots_are_scarce (m) && slots_held (m, rq->owner) > SLOTS_PER_CLIENT)
    return EBUSY;
  return pool_is_hung (&s->pool, rq->snapshot) ? EIO : 0;
}

static int
run_read (struct service *s, const struct request *rq, void *buf)
{
  uint64_t turn;
  int r;

  if (rq->length > CBW_SLOT_BUFFER_SIZE)
    return EINVAL;
  turn = turns_begin (&s->segment->map, rq->length);
  r = serve_read (s->engine, &s->source.image, rq->snapshot, buf, rq->length,
                  rq->offset);
  turns_end (&s->segment->map, turn);
  return r;
}

static int
run_cache (struct service *s, const struct request *rq)
{
  if (rq->length > UINT32_MAX)
    return EINVAL;
  if (!s->info.can_cache)
    return 0;                   /* a hint that has no use here */
  return serve_cache (s->engine, &s->source, rq->snapshot, rq->length,
                      rq->offset);
}

static int
run_request (struct service *s, const struct request *rq, void *buf,
             uint32_t *count)
{
  switch (rq->kind) {
  case CBW_REQUEST_READ:
    return run_read (s, rq, buf);
  case CBW_REQUEST_EXTENTS:
    return serve_extents (s->engine, &s->source.image, rq->snapshot,
                          rq->length, rq->offset, s->info.can_extents, buf,
                          count);
  case CBW_REQUEST_CACHE:
    return run_cache (s, rq);
  case CBW_REQUEST_DISCARD:
    return discard_clusters (s->engine, rq->snapshot, rq->length, rq->offset);
  case CBW_REQUEST_DIRECT:
    return serve_direct (s->engine, &s->segment->map, s->source.disk,
                         rq->snapshot, buf);
  default:
    return EINVAL;
  }
}

static void
serve_slot (void *opaque, unsigned index)
{
  struct service *s = opaque;
  const struct cbw_map *m = &s->segment->map;
  const int i = slot_take (m, &s->cursors[index]);
  struct request rq;
  uint32_t count = 0;
  int r;

  if (i == -1) {
    slots_wait_submitted (m, SLEEP);
    return;
  }
  rq = copy_request (m, (unsigned) i);
  if (request_is_control (rq.kind)) {
    hand_over (s, (unsigned) i, &rq);
    return;
  }
  r = check_manners (s, (unsigned) i, &rq);
  if (r == 0) {
    pool_begin (&s->pool, index, rq.snapshot);
    r = run_request (s, &rq, map_buffer (m, (unsigned) i), &count);
    pool_end (&s->pool, index);
  }
  complete (s, (unsigned) i, &rq, r, count);
}

/* ---- Start and stop ---- */

void
service_init (struct service *s, unsigned nr_threads)
{
  crew_init (&s->crew, s);
  pool_init (&s->pool, nr_threads, serve_slot, s);
  watch_init (s);
}

int
service_start (struct service *s)
{
  int r = pool_start (&s->pool);

  if (r == 0)
    r = watch_start (s);
  if (r == 0)
    return 0;
  errno = r;
  log_error ("cbw: cannot start a service thread: %m");
  return -1;
}

void
service_stop (struct service *s)
{
  struct cbw_doorbell *bell = map_doorbell (&s->segment->map);

  watch_stop (s);
  crew_stop (&s->crew);
  pool_stop (&s->pool);
  atomic_fetch_add (&bell->submitted, 1);
  futex_wake (&bell->submitted, INT_MAX);
}

bool
service_join (struct service *s, uint64_t until)
{
  bool ended = watch_join (s, until);

  ended = crew_join (&s->crew, until) && ended;
  return pool_join (&s->pool, until) && ended;
}

void
service_leave (struct service *s)
{
  const unsigned stuck = thread_group_leave (&s->watch) +
    thread_group_leave (&s->crew.threads) +
    thread_group_leave (&s->pool.group);

  if (stuck > 0)
    log_error ("cbw: %u requests of clients are stuck; leaving them",
               stuck);
}

void
service_free (struct service *s)
{
  watch_free (s);
  pool_free (&s->pool);
  crew_free (&s->crew);
}
