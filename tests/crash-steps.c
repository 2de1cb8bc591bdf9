/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "crash-model.h"
#include "crash-steps.h"
#include "request/control.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define HOLD_NS (9 * NS_PER_SEC)
#define MANY_POINTS 14

struct crash_steps crash_steps;

uint64_t
below (uint64_t max)
{
  return unit_random (&crash_steps.seed) % max;
}

void
steps_connect (void)
{
  struct error e;

  crash.guest = live_connect (&crash.filter, "");
  REQUIRE (crash.guest != NULL, "the guest: %s", nbd_get_error ());
  REQUIRE (client_attach (&crash.client, crash.shm, "crash", true,
                          20 * NS_PER_SEC, &e) == 0, "%s", e.msg);
  crash.attached = true;
}

void
steps_disconnect (void)
{
  if (crash.guest)
    nbd_close (crash.guest);
  crash.guest = NULL;
  if (crash.attached)
    client_detach (&crash.client);
  crash.attached = false;
}

/* ---- Changes ---- */

struct change
change_random (unsigned window)
{
  struct change c = { .op = below (3) ? WRITE : below (NR_OPS) };
  const uint64_t max = below (8) ? 9000 : CRASH_WINDOW;
  uint64_t i, start;

  c.count = 1 + below (max);
  start = below (CRASH_WINDOW - c.count + 1);
  if (below (2)) {              /* whole sectors */
    start = round_down (start, 512);
    c.count = min_u64 (round_up (c.count, 512), CRASH_WINDOW - start);
  }
  c.place = window * CRASH_WINDOW + start;
  c.data = calloc (1, c.count);
  CHECK (c.data != NULL);
  for (i = 0; c.op <= WRITE_FUA && i < c.count; ++i)
    c.data[i] = (unsigned char) (i % 64 ? c.data[i - 1] + 7u : below (256));
  return c;
}

void
change_submit (struct change *c)
{
  const uint64_t offset = place_offset (c->place);

  switch (c->op) {
  case ZERO:
    c->cookie = nbd_aio_zero (crash.guest, c->count, offset,
                              NBD_NULL_COMPLETION, 0);
    break;
  case TRIM:
    c->cookie = nbd_aio_trim (crash.guest, c->count, offset,
                              NBD_NULL_COMPLETION, 0);
    break;
  default:
    c->cookie = nbd_aio_pwrite (crash.guest, c->data, c->count, offset,
                                NBD_NULL_COMPLETION,
                                c->op == WRITE_FUA ? LIBNBD_CMD_FLAG_FUA : 0);
  }
  REQUIRE (c->cookie != -1, "%s", nbd_get_error ());
  TRACE ("change %d of %" PRIu64 "+%" PRIu64 "\n", c->op, offset, c->count);
  crash_steps.changes++;
}

void
change_await (struct change *c)
{
  int r;

  while ((r = nbd_aio_command_completed (crash.guest,
                                         (uint64_t) c->cookie)) == 0)
    REQUIRE (nbd_poll (crash.guest, -1) != -1, "%s", nbd_get_error ());
  REQUIRE (r == 1, "changing the disk: %s", nbd_get_error ());
  if (c->op == TRIM)
    REQUIRE (nbd_pread (crash.guest, c->data, c->count,
                        place_offset (c->place), 0) == 0,
             "%s", nbd_get_error ());
  memcpy (crash.disk + c->place, c->data, c->count);
  TRACE ("ended %d of %" PRIu64 "\n", c->op, place_offset (c->place));
}

static void
step_change (void)
{
  struct change c = change_random ((unsigned) below (CRASH_WINDOWS));

  change_submit (&c);
  change_await (&c);
  free (c.data);
}

/* All of the disk, or most, at once. */
static void
step_trim_all (void)
{
  const uint64_t from = below (2) * (UINT64_C (63) << 20);

  REQUIRE (nbd_zero (crash.guest, CRASH_DISK_SIZE - from, from, 0) == 0, "%s",
           nbd_get_error ());
  crash_read_file (crash.disk);
  TRACE ("zero of all from %" PRIu64 "\n", from);
}

/* ---- Requests ---- */

void
point_target (const struct crash_point *p, char path[CBW_TARGET_MAX])
{
  snprintf (path, CBW_TARGET_MAX, "%s/%s.cow", crash.dir, p->name);
}

int
request_ask (struct client *client, enum request request,
             const struct crash_point *p, struct error *e)
{
  char target[CBW_TARGET_MAX];
  uint64_t held_ns;

  switch (request) {
  case CHECKPOINT:
    return control_checkpoint (client, p->name, HOLD_NS, &held_ns, e);
  case CREATE:
    point_target (p, target);
    return control_create (client, &(struct control_snapshot) {
        .name = p->name, .target = target, .hold_ns = HOLD_NS }, &held_ns, e);
  case DROP:
    return control_drop (client, p->name, 0, HOLD_NS, e);
  case DROP_KEEP:
    return control_drop (client, p->name, CBW_DROP_KEEP_POINT, HOLD_NS, e);
  default:
    return 0;
  }
}

static unsigned
nr_snapshots (void)
{
  unsigned i, nr = 0;

  for (i = 0; i < crash.nr_points; ++i)
    nr += crash.points[i].snapshot && crash.points[i].stand == THERE;
  return nr;
}

/* One that can be dropped, or NULL. */
static struct crash_point *
random_point (void)
{
  struct crash_point *p;

  if (crash.nr_points == 0)
    return NULL;
  p = &crash.points[below (crash.nr_points)];
  return p->stand == THERE ? p : NULL;
}

enum request
request_choose (struct crash_point **p)
{
  const bool many = crash.nr_points >= MANY_POINTS + below (8);

  *p = NULL;
  if (!many && below (2)) {
    *p = point_new (nr_snapshots () < 5 && below (2));
    return (*p)->snapshot ? CREATE : CHECKPOINT;
  }
  if (!many && below (2))
    return NOTHING;
  *p = random_point ();
  if (*p == NULL)
    return NOTHING;
  return (*p)->snapshot && below (2) ? DROP_KEEP : DROP;
}

void
request_answered (enum request request, struct crash_point *p)
{
  TRACE ("request %d of %s: done\n", request, p->name);
  if (request == CHECKPOINT || request == CREATE) {
    p->stand = THERE;
    crash_steps.made++;
  }
  else if (request == DROP) {
    p->stand = DROPPED;
    p->live = false;
    crash_steps.dropped++;
  }
  else if (request == DROP_KEEP)
    p->snapshot = p->live = false;
}

static void
step_request (void)
{
  struct crash_point *p;
  const enum request request = request_choose (&p);
  struct error e;

  REQUIRE (request_ask (&crash.client, request, p, &e) == 0, "%s: %s", p->name,
           e.msg);
  request_answered (request, p);
}

void
step_one (void)
{
  const uint64_t dice = below (100);

  if (dice < 60)
    step_change ();
  else if (dice < 61)
    step_trim_all ();
  else if (dice < 75) {
    REQUIRE (nbd_flush (crash.guest, 0) == 0, "%s", nbd_get_error ());
    crash_steps.flushes++;
    TRACE ("flush\n");
  }
  else
    step_request ();
}
