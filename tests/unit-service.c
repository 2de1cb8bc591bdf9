/* SPDX-License-Identifier: BSD-3-Clause */

/* What the filter makes of clients that do not keep to what is theirs: they
 * are refused, and others served.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>

#include "engine-env.h"
#include "request/client.h"
#include "segment-env.h"
#include "segment/liveness.h"
#include "segment/segment-server.h"
#include "segment/slots.h"
#include "service/service.h"
#include "unit.h"
#include "utils/clock.h"

#define CS 4096
#define SIZE (64 * CS)
#define LONG (60 * NS_PER_SEC)

static struct env env;          /* with one snapshot */
static struct segment segment;
static struct service service;
static struct cbw_map *m = &segment.map;
static int fd;                  /* of the clients */

static void
start (void)
{
  struct error e;

  env_start (&env, SIZE, CS, 1);
  segment_env_start ();
  segment_env_serve (&segment, SIZE, CS);
  CHECK (segment_begin (&segment, &e) == 0);
  service = (struct service) {
    .engine = &env.engine, .segment = &segment, .source = env.source,
    .info = { .size = SIZE, .can_extents = true },
  };
  service_init (&service, 2);
  CHECK (service_start (&service) == 0);
  segment_publish (&segment);
  fd = open (segment_env.path, O_RDWR | O_CLOEXEC);
  CHECK (fd >= 0);
}

static void
end (void)
{
  service_stop (&service);
  CHECK (service_join (&service, now_monotonic_ns () + LONG));
  service_free (&service);
  close (fd);
  segment_close (&segment, true);
  segment_env_end ();
  env_end (&env);
}

/* The tag of a client that lives. */
static uint32_t
client (unsigned i)
{
  CHECK_EQ (liveness_take_client (fd, i), 1);
  return slot_owner (i, ++map_client (m, i)->incarnation);
}

/* Put a request into slot i, which is the owner's, and wait for the reply:
 * its status.  The slot stays in DONE.
 */
static int
ask (unsigned i, uint32_t owner, enum cbw_request_kind kind)
{
  struct cbw_slot *slot = map_slot (m, i);

  slot->kind = kind;
  slot->snapshot = ENV_SNAPSHOT_ID;
  slot->offset = 0;
  slot->length = CS;
  slot_submit (m, i, owner);
  slots_ring (m);
  CHECK_EQ (slot_wait (m, i, owner, LONG), SLOT_WAIT_DONE);
  return slot->status;
}

/* Slots and entries kept for control are for nothing else. */
static void
test_kept_for_control (void)
{
  static const enum cbw_request_kind kinds[] = {
    CBW_REQUEST_READ, CBW_REQUEST_EXTENTS, CBW_REQUEST_CACHE,
    CBW_REQUEST_DISCARD, CBW_REQUEST_DIRECT, 6, 15
  };
  uint32_t reader, tool;
  unsigned i;

  start ();
  reader = client (3);
  tool = client (CLIENTS_FOR_ALL);
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
    slots_set (m, SLOTS_FOR_ALL, SLOT_CLAIMED, reader);
    CHECK_EQ (ask (SLOTS_FOR_ALL, reader, kinds[i]), EPERM);
    slots_set (m, 5, SLOT_CLAIMED, tool);
    CHECK_EQ (ask (5, tool, kinds[i]), EPERM);
  }
  slots_set (m, SLOTS_FOR_ALL - 1, SLOT_CLAIMED, reader);
  CHECK_EQ (ask (SLOTS_FOR_ALL - 1, reader, CBW_REQUEST_READ), 0);
  slots_set (m, SLOTS_FOR_ALL - 1, SLOT_CLAIMED, reader);
  CHECK_EQ (ask (SLOTS_FOR_ALL - 1, reader, CBW_REQUEST_DIRECT), ENOTSUP);

  /* Not "not allowed", but "no such snapshot". */
  slots_set (m, CBW_NR_SLOTS - 1, SLOT_CLAIMED, reader);
  memset (map_buffer (m, CBW_NR_SLOTS - 1), 0, sizeof (struct cbw_control));
  ((struct cbw_control *) map_buffer (m, CBW_NR_SLOTS - 1))->action =
    CBW_JOB_PAUSE;
  CHECK_EQ (ask (CBW_NR_SLOTS - 1, reader, CBW_REQUEST_JOB), EINVAL);
  CHECK (strstr (((struct cbw_control *)
                  map_buffer (m, CBW_NR_SLOTS - 1))->message,
                 "is not a backup"));
  end ();
}

/* More than a share is for when nobody else needs it. */
static void
test_share (void)
{
  uint32_t greedy, other;
  unsigned i;

  start ();
  greedy = client (3);
  other = client (4);
  for (i = 0; i < SLOTS_PER_CLIENT + 9; ++i)
    slots_set (m, i, SLOT_CLAIMED, greedy);
  CHECK_EQ (ask (0, greedy, CBW_REQUEST_READ), 0);
  slots_set (m, 0, SLOT_CLAIMED, greedy);

  for (; i < SLOTS_FOR_ALL - SLOTS_FEW + 1; ++i)
    slots_set (m, i, SLOT_CLAIMED, other);
  CHECK (slots_are_scarce (m));
  CHECK_EQ (ask (0, greedy, CBW_REQUEST_READ), EBUSY);
  slots_set (m, i, SLOT_CLAIMED, other);
  CHECK_EQ (ask (i, other, CBW_REQUEST_READ), EBUSY); /* it has more, too */

  for (i = 0; i < SLOTS_FOR_ALL; ++i)
    slots_set (m, i, SLOT_CLAIMED,
               i < SLOTS_PER_CLIENT ? greedy :
               i < SLOTS_FOR_ALL - 4 ? slot_owner (5 + i / 8, 0) : other);
  CHECK_EQ (ask (0, greedy, CBW_REQUEST_READ), 0);
  CHECK_EQ (ask (SLOTS_FOR_ALL - 1, other, CBW_REQUEST_READ), 0);
  end ();
}

/* A reply that is left lying while slots are scarce is taken back; and what
 * a client leaves that is gone.
 */
static void
test_reaped (void)
{
  uint32_t stopped, other;
  unsigned i;

  start ();
  stopped = client (3);
  other = client (4);
  for (i = 0; i < SLOTS_FOR_ALL - SLOTS_FEW + 1; ++i)
    slots_set (m, i, SLOT_CLAIMED, i < 2 ? stopped : other);
  CHECK_EQ (ask (0, stopped, CBW_REQUEST_READ), 0);
  while (atomic_load (&map_slot (m, 0)->state) != SLOT_FREE)
    usleep (10000);
  CHECK_EQ (slots_held (m, stopped), 1); /* the one in CLAIMED */
  close (fd);                   /* they die */
  fd = -1;
  while (slots_held (m, stopped) + slots_held (m, other) > 0)
    usleep (10000);
  CHECK_EQ (atomic_load (&map_header (m)->reaped),
            SLOTS_FOR_ALL - SLOTS_FEW + 1);
  end ();
}

/* A client that holds guests dies: they continue, and its commit is refused.
 * One that lives is not disturbed.
 */
static void
test_hold_orphaned (void)
{
  struct hold *const hold = &env.engine.hold;
  struct guest_change change;
  uint64_t number, found;
  uint32_t holder;
  struct error e;

  start ();
  CHECK_EQ (hold_begin (hold, LONG, LONG, client (3), &number, &e), 0);
  usleep (300 * 1000);          /* three looks of the watch */
  CHECK (hold_of_client (hold, &found, &holder));
  close (fd);                   /* it dies */
  fd = -1;
  CHECK_EQ (engine_guest_begin (&env.engine, &env.source.image, 0, CS, GUEST_WRITE,
                                NULL, &change), 0);
  engine_guest_end (&env.engine, &change, false);
  CHECK (now_monotonic_ns () - hold->since < LONG / 2);
  CHECK_EQ (hold_commit (hold, number, &e), -1);
  CHECK_ERROR (&e, ESTALE, "not held any more");
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_kept_for_control);
  RUN (test_share);
  RUN (test_reaped);
  RUN (test_hold_orphaned);
  return unit_end ();
}
