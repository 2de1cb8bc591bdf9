/* SPDX-License-Identifier: BSD-3-Clause */

/* One slot, from claiming to giving it back: see request-slot.h, and for what
 * the server may do meanwhile slots.h.
 */

#include <config.h>

#include <errno.h>

#include "request/request-slot.h"
#include "segment/slots.h"
#include "utils/clock.h"

/* How long to sleep before looking if the filter is still alive. */
#define LIVENESS_INTERVAL (500 * NS_PER_MS)

static bool
is_control (const struct asked *a)
{
  return request_is_control (a->kind);
}

static struct share *
snapshot_share (struct client *c, uint64_t snapshot)
{
  return &c->snapshots[snapshot % CBW_NR_SNAPSHOTS];
}

/* Is it worth to go on waiting?  False if the server is gone, and our
 * patience with it over.
 */
static bool
may_wait (struct client *c, uint64_t *waited_since)
{
  if (!client_server_alive (c))
    return client_wait_server (c, waited_since);
  *waited_since = 0;
  return true;
}

/* Take one from the share; if "wait", as soon as there is one. */
static bool
take_share (struct client *c, struct share *share, unsigned max, bool wait)
{
  uint64_t waited_since = 0;
  uint32_t seen;

  for (;;) {
    seen = atomic_load (&share->room);
    if (share_take (share, max))
      return true;
    if (!wait || (!share_wait (share, seen, LIVENESS_INTERVAL) &&
                  !may_wait (c, &waited_since)))
      return false;
  }
}

static bool
take_slot (struct client *c, bool control, bool wait, struct held *h)
{
  const struct cbw_map *m = &c->segment.map;
  uint64_t waited_since = 0;
  uint32_t seen;
  int i;

  for (;;) {
    seen = atomic_load (&map_doorbell (m)->freed);
    i = slot_claim (m, c->owner, control);
    if (i >= 0) {
      h->slot = (unsigned) i;
      h->claim = atomic_fetch_add (&c->claims[i], 1) + 1;
      return true;
    }
    if (!wait)
      return false;
    slot_wait_free (m, seen, LIVENESS_INTERVAL);
    if (!may_wait (c, &waited_since))
      return false;
  }
}

/* A slot was given back, or lost. */
static void
give_shares (struct client *c, const struct asked *a)
{
  if (is_control (a))
    return;
  share_give (&c->share);
  share_give (snapshot_share (c, a->snapshot));
}

bool
request_slot_claim (struct client *c, const struct asked *a, bool wait,
                    struct held *h)
{
  struct share *const of_snapshot = snapshot_share (c, a->snapshot);

  if (is_control (a))
    return take_slot (c, true, wait, h);
  if (!take_share (c, of_snapshot, SLOTS_PER_SNAPSHOT, wait))
    return false;
  if (!take_share (c, &c->share, SLOTS_PER_CLIENT, wait)) {
    share_give (of_snapshot);
    return false;
  }
  if (!take_slot (c, false, wait, h)) {
    give_shares (c, a);
    return false;
  }
  return true;
}

void
request_slot_submit (struct client *c, const struct asked *a,
                     const struct held *h)
{
  struct cbw_slot *slot = map_slot (&c->segment.map, h->slot);

  slot->kind = a->kind;
  slot->snapshot = a->snapshot;
  slot->offset = a->offset;
  slot->length = a->length;
  slot->status = EIO;
  slot->count = 0;
  slot_submit (&c->segment.map, h->slot, c->owner);
}

/* Has no other thread of ours claimed the slot since? */
static bool
is_ours (struct client *c, const struct held *h)
{
  return atomic_load (&c->claims[h->slot]) == h->claim;
}

enum outcome
request_slot_wait (struct client *c, const struct asked *a,
                   const struct held *h, int *status)
{
  const struct cbw_map *m = &c->segment.map;
  enum outcome outcome = LOST;
  uint64_t waited_since = 0;
  enum slot_wait r;

  for (;;) {
    r = slot_wait (m, h->slot, c->owner,
                   waited_since ? 1 : LIVENESS_INTERVAL);
    if (r == SLOT_WAIT_LOST || !is_ours (c, h))
      break;
    if (r == SLOT_WAIT_DONE) {
      *status = map_slot (m, h->slot)->status;
      if (*status < 0 || *status >= 4096)
        *status = EIO;
      return REPLIED;
    }
    if (!may_wait (c, &waited_since)) {
      slot_abandon (m, h->slot, c->owner);
      outcome = GONE;
      break;
    }
  }
  give_shares (c, a);
  return outcome;
}

/* The server may take it back in DONE, and another of our threads may have
 * claimed it since, and have a reply in it.  That one had raised "claims"
 * before it submitted.  The first look keeps us from freeing that thread's
 * slot; the second is the proof.
 */
bool
request_slot_finish (struct client *c, const struct asked *a,
                     const struct held *h)
{
  const bool ours = is_ours (c, h) &&
    slot_finish (&c->segment.map, h->slot, c->owner) && is_ours (c, h);

  give_shares (c, a);
  return ours;
}
