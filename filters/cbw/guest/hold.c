/* SPDX-License-Identifier: BSD-3-Clause */

/* Holding the gate.  The gate itself knows when a lease is over; here is whose
 * hold it is, and which.  Guests' threads do not come here: they take the
 * gate's lock alone.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "below/log.h"
#include "guest/hold.h"
#include "segment/layout.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

/* A single try to close the gate, or a few of the usual length, between which
 * guests continue.
 */
#define HOLD_TRIES 5
#define HOLD_PAUSE (50 * NS_PER_MS)

void
hold_init (struct hold *h, struct gate *gate, struct copier *copier)
{
  *h = (struct hold) { .gate = gate, .copier = copier };
  pthread_mutex_init (&h->lock, NULL);
}

void
hold_destroy (struct hold *h)
{
  pthread_mutex_destroy (&h->lock);
}

static int
close_gate (struct hold *h, uint64_t hold_ns, uint64_t lease_ns,
            struct error *error)
{
  const struct timespec pause = { .tv_nsec = HOLD_PAUSE };
  const unsigned tries = hold_ns ? 1 : HOLD_TRIES;
  char what[CBW_TARGET_MAX + 256] =
    "a guest's change, which the disk itself has not answered";
  unsigned i;

  for (i = 0; i < tries; ++i) {
    if (i > 0)
      nanosleep (&pause, NULL);
    if (gate_close (h->gate, hold_ns ? hold_ns : CBW_HOLD_DEFAULT, lease_ns))
      return 0;
  }
  claims_describe_oldest (&h->copier->claims, what, sizeof what);
  return error_set (error, EBUSY, "guests' changes that are under way did not "
                    "end in time: this waits for %s; try again later, or hold "
                    "guests for longer (--hold-timeout)", what);
}

/* Forget a hold whose lease is over.  The lock is held. */
static void
look (struct hold *h)
{
  if (h->state == HOLD_HELD && !gate_is_closed (h->gate))
    h->state = HOLD_NONE;
}

/* The hold is over: guests continue.  The lock is held. */
static void
let_go (struct hold *h)
{
  h->state = HOLD_NONE;
  gate_open (h->gate);
  LOG_WATCH (cut, "hold %" PRIu64 ": guests continue after %.3f ms", h->number,
             (double) (now_monotonic_ns () - h->since) / NS_PER_MS);
}

static int
refuse_quit (const struct hold *h, uint32_t holder, struct error *error)
{
  return h->quit && holder != 0 ?
    error_set (error, ESHUTDOWN, "this server is ending") : 0;
}

int
hold_begin (struct hold *h, uint64_t hold_ns, uint64_t lease_ns,
            uint32_t holder, uint64_t *number, struct error *error)
{
  int r;

  {
    LOCK_FOR_SCOPE (&h->lock);
    look (h);
    if (refuse_quit (h, holder, error) == -1)
      return -1;
    if (h->state != HOLD_NONE)
      return error_set (error, EBUSY, "guests' changes are being held for "
                        "another snapshot, which will be taken in a moment; "
                        "try again then");
    h->state = HOLD_CLOSING;
    h->holder = holder;
    h->since = now_monotonic_ns ();
    *number = ++h->number;
  }
  r = close_gate (h, hold_ns, lease_ns, error);

  LOCK_FOR_SCOPE (&h->lock);
  h->state = r == 0 ? HOLD_HELD : HOLD_NONE;
  if (r == 0 && refuse_quit (h, holder, error) == -1) {
    let_go (h);
    return -1;
  }
  LOG_WATCH (cut, "hold %" PRIu64 ": %s", *number,
             r == 0 ? "guests are held" : error->msg);
  return r;
}

/* The lock is held. */
static int
refuse_stale (const struct hold *h, uint64_t number, struct error *error)
{
  return h->state == HOLD_HELD && h->number == number ? 0 :
    error_set (error, ESTALE, "guests' changes are not held any more: it was "
               "not done in time, or the client that held them is gone; try "
               "again");
}

int
hold_check (struct hold *h, uint64_t number, struct error *error)
{
  LOCK_FOR_SCOPE (&h->lock);

  look (h);
  return refuse_stale (h, number, error);
}

int
hold_commit (struct hold *h, uint64_t number, struct error *error)
{
  LOCK_FOR_SCOPE (&h->lock);

  if (h->state == HOLD_HELD && !gate_keep (h->gate))                /* H3 */
    h->state = HOLD_NONE;
  if (refuse_stale (h, number, error) == -1)
    return -1;
  h->state = HOLD_COMMITTING;
  return 0;
}

uint64_t
hold_committed (struct hold *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  assert (h->state == HOLD_COMMITTING);
  let_go (h);                                                      /* H5 */
  return now_monotonic_ns () - h->since;
}

void
hold_end (struct hold *h, uint64_t number)
{
  LOCK_FOR_SCOPE (&h->lock);

  if (h->state == HOLD_HELD && h->number == number)
    let_go (h);
}

bool
hold_of_client (struct hold *h, uint64_t *number, uint32_t *holder)
{
  LOCK_FOR_SCOPE (&h->lock);

  look (h);
  *number = h->number;
  *holder = h->holder;
  return h->state == HOLD_HELD && h->holder != 0;
}

void
hold_stop (struct hold *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  h->quit = true;
  if (h->state == HOLD_HELD && h->holder != 0)
    let_go (h);
}
