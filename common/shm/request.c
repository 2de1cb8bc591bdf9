/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "request.h"
#include "rounding.h"
#include "slots.h"

/* How long to sleep before looking if the filter is still alive. */
#define LIVENESS_INTERVAL (500 * NS_PER_MS)

/* Slots that one request may hold at a time: enough to keep the filter's
 * threads busy, not so many that one large read shuts out the others.
 */
#define REQUEST_SLOTS_MAX 8

/* Claim a slot if there is one and we do not hold our share. */
static int
claim (struct client *c)
{
  int i;

  if (atomic_fetch_add (&c->slots, 1) >= CLIENT_SLOTS_MAX ||
      (i = slot_claim (&c->segment.map, c->owner)) == -1) {
    atomic_fetch_sub (&c->slots, 1);
    return -1;
  }
  return i;
}

/* Claim a slot, waiting for one.  The caller holds none.  Returns -1 if
 * the filter is gone.
 */
static int
claim_wait (struct client *c)
{
  const struct cbw_map *m = &c->segment.map;
  uint64_t waited_since = 0;
  uint32_t seen;
  int i;

  for (;;) {
    seen = atomic_load (&map_doorbell (m)->freed);
    i = claim (c);
    if (i >= 0)
      return i;
    slot_wait_free (m, seen, LIVENESS_INTERVAL);
    if (client_server_alive (c))
      waited_since = 0;
    else if (!client_wait_server (c, &waited_since))
      return -1;
  }
}

static void
release (struct client *c, unsigned i)
{
  /* Counted down first, so that whom the ring wakes finds room. */
  atomic_fetch_sub (&c->slots, 1);
  slot_abandon (&c->segment.map, i, c->owner);
}

static void
submit (struct client *c, unsigned i, enum cbw_request_kind kind,
        uint64_t snapshot, uint64_t length, uint64_t offset)
{
  struct cbw_slot *slot = map_slot (&c->segment.map, i);

  slot->kind = kind;
  slot->snapshot = snapshot;
  slot->offset = offset;
  slot->length = length;
  slot->status = EIO;
  slot->count = 0;
  slot_submit (&c->segment.map, i, c->owner);
}

/* Wait for the reply in slot i.  Returns its status; the slot stays ours
 * only if *held.
 */
static int
wait_reply (struct client *c, unsigned i, bool *held)
{
  const struct cbw_map *m = &c->segment.map;
  uint64_t waited_since = 0;
  enum slot_wait r;
  int status;

  *held = true;
  for (;;) {
    r = slot_wait (m, i, c->owner, waited_since ? 1 : LIVENESS_INTERVAL);
    if (r == SLOT_WAIT_DONE) {
      status = map_slot (m, i)->status;
      return status >= 0 && status < 4096 ? status : EIO;
    }
    if (r == SLOT_WAIT_TIMEOUT) {
      if (client_server_alive (c)) {
        waited_since = 0;
        continue;
      }
      if (client_wait_server (c, &waited_since))
        continue;
      slot_abandon (m, i, c->owner);
    }
    *held = false;
    atomic_fetch_sub (&c->slots, 1);
    return ESHUTDOWN;
  }
}

/* Submit one request and wait for its reply.  "payload" (may be NULL) is
 * put into the slot's buffer.  If *held afterwards, the slot *i is the
 * caller's to release.
 */
static int
run_one (struct client *c, enum cbw_request_kind kind, uint64_t snapshot,
         uint64_t length, uint64_t offset, const struct cbw_control *payload,
         unsigned *i, bool *held)
{
  const int claimed = claim_wait (c);

  *held = false;
  if (claimed == -1)
    return ESHUTDOWN;
  *i = (unsigned) claimed;
  if (payload)
    memcpy (map_buffer (&c->segment.map, *i), payload, sizeof *payload);
  submit (c, *i, kind, snapshot, length, offset);
  slots_ring (&c->segment.map);
  return wait_reply (c, *i, held);
}

/* A piece of a read on its way. */
struct piece {
  unsigned slot;
  uint64_t offset;
  uint64_t length;
};

/* Fill the queue with further pieces of [*next, end), waiting for a slot
 * only if it is empty: a thread never waits for a slot while it holds
 * finished ones.  Returns 0 or an errno.
 */
static int
submit_pieces (struct client *c, uint64_t snapshot, uint64_t *next,
               uint64_t end, struct piece *queue, unsigned head,
               unsigned *nr)
{
  const uint64_t first = *next;
  struct piece *p;
  int i;

  while (*next < end && *nr < REQUEST_SLOTS_MAX) {
    i = *nr == 0 ? claim_wait (c) : claim (c);
    if (i == -1)
      break;
    p = &queue[(head + *nr) % REQUEST_SLOTS_MAX];
    p->slot = (unsigned) i;
    p->offset = *next;
    p->length = min_u64 (end - *next, CBW_SLOT_BUFFER_SIZE);
    submit (c, p->slot, CBW_REQUEST_READ, snapshot, p->length, p->offset);
    *next += p->length;
    ++*nr;
  }
  if (*next > first)
    slots_ring (&c->segment.map);
  return *nr == 0 ? ESHUTDOWN : 0;
}

int
request_read (struct client *c, uint64_t snapshot, void *buf, uint64_t count,
              uint64_t offset)
{
  struct piece queue[REQUEST_SLOTS_MAX];
  uint64_t next = offset, end = offset + count;
  unsigned head = 0, nr = 0;
  struct piece *p;
  bool held;
  int r, err = 0;

  while (nr > 0 || next < end) {
    r = submit_pieces (c, snapshot, &next, end, queue, head, &nr);
    if (r != 0)
      return err ? err : r;

    p = &queue[head];
    r = wait_reply (c, p->slot, &held);
    if (r == 0)
      memcpy ((char *) buf + (p->offset - offset),
              map_buffer (&c->segment.map, p->slot), p->length);
    else {
      err = err ? err : r;
      next = end;               /* no more; but wait for those under way */
    }
    if (held)
      release (c, p->slot);
    head = (head + 1) % REQUEST_SLOTS_MAX;
    nr--;
  }
  return err;
}

int
request_extents (struct client *c, uint64_t snapshot, uint64_t count,
                 uint64_t offset, uint64_t size,
                 int (*add) (void *opaque, uint64_t offset, uint64_t length,
                             uint32_t type), void *opaque)
{
  const struct cbw_extent *extents;
  struct cbw_extent x;
  uint32_t nr, n;
  unsigned i;
  bool held;
  int r;

  r = run_one (c, CBW_REQUEST_EXTENTS, snapshot, count, offset, NULL, &i,
               &held);
  if (!held)
    return r;
  extents = map_buffer (&c->segment.map, i);
  nr = map_slot (&c->segment.map, i)->count;
  if (r == 0 && (nr == 0 || nr > CBW_EXTENTS_MAX))
    r = EIO;
  for (n = 0; r == 0 && n < nr; ++n) {
    x = extents[n];
    if (x.length == 0 || x.length > size - offset)
      r = EIO;
    else if (add (opaque, offset, x.length,
                  x.type & (CBW_EXTENT_HOLE | CBW_EXTENT_ZERO)) == -1)
      r = ENOMEM;
    offset += x.length;
  }
  release (c, i);
  return r;
}

/* A request without data. */
static int
run_simple (struct client *c, enum cbw_request_kind kind, uint64_t snapshot,
            uint64_t count, uint64_t offset)
{
  unsigned i;
  bool held;
  int r;

  r = run_one (c, kind, snapshot, count, offset, NULL, &i, &held);
  if (held)
    release (c, i);
  return r;
}

int
request_cache (struct client *c, uint64_t snapshot, uint64_t count,
               uint64_t offset)
{
  return run_simple (c, CBW_REQUEST_CACHE, snapshot, count, offset);
}

int
request_discard (struct client *c, uint64_t snapshot, uint64_t count,
                 uint64_t offset)
{
  return run_simple (c, CBW_REQUEST_DISCARD, snapshot, count, offset);
}

int
request_control (struct client *c, enum cbw_request_kind kind,
                 uint64_t snapshot, struct cbw_control *rq)
{
  unsigned i;
  bool held;
  int r;

  r = run_one (c, kind, snapshot, 0, 0, rq, &i, &held);
  if (held) {
    memcpy (rq, map_buffer (&c->segment.map, i), sizeof *rq);
    rq->message[sizeof rq->message - 1] = '\0';
    release (c, i);
  }
  return r;
}
