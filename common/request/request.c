/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests through the request list, as the client makes them.
 *
 * The server may take a slot back whose reply is left lying (slots.h).  A
 * thread that was stopped may find that it has lost its slot, and that it has
 * copied another's reply.  Then it makes the request again, as every request
 * can be repeated: reads and extents change nothing, a discard done twice is
 * the same as done once, and a control request carries a uuid or an id.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "request/request-slot.h"
#include "request/request.h"
#include "segment/slots.h"
#include "utils/rounding.h"

/* Slots that one request may hold at a time: enough to keep the filter's
 * threads busy, not so many that one large read shuts out the others.
 */
#define REQUEST_SLOTS_MAX 8

/* A thread that loses so many slots, one after the other, is not just stopped
 * now and then.
 */
#define LOSSES_MAX 64

/* Run one request.  "payload" (may be NULL) is put into the slot's buffer;
 * "copy" (may be NULL) copies what is wanted of the reply, whose status it is
 * given, and returns the status; it may be called again, with another reply, or
 * with NULL if what it has copied was none.  Returns the status, ESHUTDOWN, or
 * EIO if no reply could be got hold of.
 */
static int
run_one (struct client *c, const struct asked *a,
         const struct cbw_control *payload,
         int (*copy) (void *opaque, int status, const struct cbw_slot *slot,
                      const void *buffer), void *opaque)
{
  const struct cbw_map *m = &c->segment.map;
  enum outcome outcome;
  struct held h;
  unsigned n;
  int status;

  for (n = 0; n < LOSSES_MAX; ++n) {
    if (!request_slot_claim (c, a, true, &h))
      return ESHUTDOWN;
    if (payload)
      memcpy (map_buffer (m, h.slot), payload, sizeof *payload);
    request_slot_submit (c, a, &h);
    slots_ring (m);
    outcome = request_slot_wait (c, a, &h, &status);
    if (outcome == GONE)
      return ESHUTDOWN;
    if (outcome == LOST)
      continue;
    if (copy)
      status = copy (opaque, status, map_slot (m, h.slot),
                     map_buffer (m, h.slot));
    if (request_slot_finish (c, a, &h))
      return status;
  }
  return copy ? copy (opaque, EIO, NULL, NULL) : EIO;
}

/* ---- Reads ---- */

/* A piece of a read. */
struct piece {
  struct asked asked;
  struct held held;
};

/* A read: what is under way, and what is still to be asked for. */
struct reading {
  uint64_t snapshot;
  uint64_t next, end;           /* not asked for yet */
  struct piece queue[REQUEST_SLOTS_MAX]; /* under way, from "head" on */
  unsigned head, nr;
  struct asked again[REQUEST_SLOTS_MAX]; /* lost */
  unsigned nr_again;
};

/* What to ask for next; false if nothing is left. */
static bool
next_piece (struct reading *r, struct asked *a)
{
  if (r->nr_again > 0) {
    *a = r->again[--r->nr_again];
    return true;
  }
  if (r->next == r->end)
    return false;
  *a = (struct asked) {
    .kind = CBW_REQUEST_READ,
    .snapshot = r->snapshot,
    .offset = r->next,
    .length = min_u64 (r->end - r->next, CBW_SLOT_BUFFER_SIZE),
  };
  r->next += a->length;
  return true;
}

/* There is no slot for it yet. */
static void
put_back (struct reading *r, const struct asked *a)
{
  r->again[r->nr_again++] = *a;
}

/* Fill the queue, waiting for a slot only if it is empty: a thread never
 * waits for a slot while it holds finished ones.  Returns false if the server
 * is gone, and nothing is under way.
 */
static bool
submit_pieces (struct client *c, struct reading *r)
{
  const unsigned before = r->nr;
  struct piece *p;

  while (r->nr + r->nr_again < REQUEST_SLOTS_MAX || r->nr_again > 0) {
    p = &r->queue[(r->head + r->nr) % REQUEST_SLOTS_MAX];
    if (!next_piece (r, &p->asked))
      break;
    if (!request_slot_claim (c, &p->asked, r->nr == 0, &p->held)) {
      put_back (r, &p->asked);
      break;
    }
    request_slot_submit (c, &p->asked, &p->held);
    r->nr++;
  }
  if (r->nr > before)
    slots_ring (&c->segment.map);
  return r->nr > 0;
}

int
request_read (struct client *c, uint64_t snapshot, void *buf, uint64_t count,
              uint64_t offset)
{
  struct reading r = {
    .snapshot = snapshot, .next = offset, .end = offset + count
  };
  unsigned losses = 0;
  struct piece *p;
  enum outcome outcome;
  int status, err = 0;

  while (r.nr > 0 || r.nr_again > 0 || r.next < r.end) {
    if (!submit_pieces (c, &r))
      return err ? err : ESHUTDOWN;

    p = &r.queue[r.head];
    outcome = request_slot_wait (c, &p->asked, &p->held, &status);
    if (outcome == REPLIED) {
      if (status == 0)
        memcpy ((char *) buf + (p->asked.offset - offset),
                map_buffer (&c->segment.map, p->held.slot), p->asked.length);
      if (!request_slot_finish (c, &p->asked, &p->held))
        outcome = LOST;
    }
    r.head = (r.head + 1) % REQUEST_SLOTS_MAX;
    r.nr--;

    if (outcome == GONE)
      status = ESHUTDOWN;
    else if (outcome == REPLIED)
      losses = 0;
    else if (err == 0 && ++losses < LOSSES_MAX) {
      put_back (&r, &p->asked);
      continue;
    }
    else
      status = EIO;
    if (status != 0) {
      err = err ? err : status;
      r.next = r.end;           /* no more; but wait for those under way */
      r.nr_again = 0;
    }
  }
  return err;
}

/* ---- The others ---- */

/* The extents of a reply. */
struct extents {
  struct cbw_extent *x;
  uint32_t nr;
};

static int
copy_extents (void *opaque, int status, const struct cbw_slot *slot,
              const void *buffer)
{
  struct extents *copy = opaque;
  const uint32_t nr = slot->count;

  if (status != 0)
    return status;
  if (nr == 0 || nr > CBW_EXTENTS_MAX)
    return EIO;
  free (copy->x);               /* if it is asked for again */
  copy->x = malloc (nr * sizeof *copy->x);
  if (copy->x == NULL)
    return ENOMEM;
  memcpy (copy->x, buffer, nr * sizeof *copy->x);
  copy->nr = nr;
  return 0;
}

int
request_extents (struct client *c, uint64_t snapshot, uint64_t count,
                 uint64_t offset, uint64_t size,
                 int (*add) (void *opaque, uint64_t offset, uint64_t length,
                             uint32_t type), void *opaque)
{
  const struct asked a = { CBW_REQUEST_EXTENTS, snapshot, count, offset };
  struct extents e = { .x = NULL };
  const struct cbw_extent *x;
  int r;

  r = run_one (c, &a, NULL, copy_extents, &e);
  for (x = e.x; r == 0 && x < e.x + e.nr; ++x) {
    if (x->length == 0 || x->length > size - offset)
      r = EIO;
    else if (add (opaque, offset, x->length,
                  x->type & (CBW_EXTENT_HOLE | CBW_EXTENT_ZERO)) == -1)
      r = ENOMEM;
    offset += x->length;
  }
  free (e.x);
  return r;
}

int
request_cache (struct client *c, uint64_t snapshot, uint64_t count,
               uint64_t offset)
{
  const struct asked a = { CBW_REQUEST_CACHE, snapshot, count, offset };

  return run_one (c, &a, NULL, NULL, NULL);
}

int
request_discard (struct client *c, uint64_t snapshot, uint64_t count,
                 uint64_t offset)
{
  const struct asked a = { CBW_REQUEST_DISCARD, snapshot, count, offset };

  return run_one (c, &a, NULL, NULL, NULL);
}

static int
copy_direct (void *opaque, int status, const struct cbw_slot *slot,
             const void *buffer)
{
  struct cbw_direct *direct = opaque;
  unsigned i;

  if (slot == NULL || status != 0)
    return status;
  memcpy (direct, buffer, sizeof *direct);
  direct->source.path[sizeof direct->source.path - 1] = '\0';
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    direct->views[i].target.path[CBW_TARGET_MAX - 1] = '\0';
  return 0;
}

int
request_direct (struct client *c, uint64_t snapshot,
                struct cbw_direct *direct)
{
  const struct asked a = { .kind = CBW_REQUEST_DIRECT, .snapshot = snapshot };

  return run_one (c, &a, NULL, copy_direct, direct);
}

static int
copy_control (void *opaque, int status, const struct cbw_slot *slot,
              const void *buffer)
{
  struct cbw_control *rq = opaque;

  if (slot == NULL) {
    memset (rq, 0, sizeof *rq);
    return status;
  }
  memcpy (rq, buffer, sizeof *rq);
  rq->message[sizeof rq->message - 1] = '\0';
  return status;
}

int
request_control (struct client *c, enum cbw_request_kind kind,
                 uint64_t snapshot, struct cbw_control *rq)
{
  const struct asked a = { .kind = kind, .snapshot = snapshot };
  struct cbw_control reply = { 0 };
  int r;

  r = run_one (c, &a, rq, copy_control, &reply);
  *rq = reply;
  return r;
}
