/* SPDX-License-Identifier: BSD-3-Clause */

/* The client's side of the request list: shares, what is kept for control,
 * and slots that are taken back while a reply is being copied.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include "request/client.h"
#include "request/request.h"
#include "segment-env.h"
#include "segment/slots.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/futex.h"

#define CS 4096
#define SIZE (1 << 20)
#define PIECE CBW_SLOT_BUFFER_SIZE

static struct segment segment;
static struct cbw_map *m = &segment.map;
static struct client client;
static _Atomic (bool) stop;

static int
attach (struct client *c, const char *program, bool control, struct error *e)
{
  *c = (struct client) { .segment = SEGMENT_INIT };
  return client_attach (c, segment_env.path, program, control, 0, e);
}

static void
start (void)
{
  struct error e;

  segment_env_start ();
  segment_env_serve (&segment, SIZE, CS);
  segment_env_publish (&segment);
  CHECK (attach (&client, "unit", false, &e) == 0);
  atomic_store (&stop, false);
}

static void
end (void)
{
  client_detach (&client);
  segment_close (&segment, true);
  segment_env_end ();
}

static void
wait_submitted (unsigned n)
{
  while (slots_count (m, SLOT_SUBMITTED) != n)
    usleep (1000);
}

/* ---- A server ---- */

/* Bytes that tell where they are from. */
static unsigned char
byte_at (uint64_t snapshot, uint64_t offset)
{
  return (unsigned char) (snapshot * 31 + offset / 512 * 7 + offset / 99991);
}

static void
answer (unsigned i)
{
  struct cbw_slot *slot = map_slot (m, i);
  struct cbw_extent *x = map_buffer (m, i);
  struct cbw_control *rq = map_buffer (m, i);
  unsigned char *p = map_buffer (m, i);
  uint64_t n;

  slot->status = 0;
  switch (slot->kind) {
  case CBW_REQUEST_READ:
    for (n = 0; n < slot->length; ++n)
      p[n] = byte_at (slot->snapshot, slot->offset + n);
    break;
  case CBW_REQUEST_EXTENTS:
    slot->count = 2;
    x[0] = (struct cbw_extent) { slot->offset + 1, 0 };
    x[1] = (struct cbw_extent) { slot->offset + 2, CBW_EXTENT_HOLE };
    break;
  case CBW_REQUEST_JOB:
    rq->held_ns = rq->speed + 1;
    break;
  default:
    slot->status = ENOTSUP;
  }
  slot_complete (m, i);
}

static void *
server_thread (void *opaque)
{
  unsigned cursor = 0;
  int i;

  (void) opaque;
  while (!atomic_load (&stop)) {
    i = slot_take (m, &cursor);
    if (i >= 0)
      answer ((unsigned) i);
    else
      slots_wait_submitted (m, 20 * NS_PER_MS);
  }
  return NULL;
}

static void
start_thread (pthread_t *t, void *(*run) (void *), uintptr_t n)
{
  CHECK (pthread_create (t, NULL, run, (void *) n) == 0);
}

static void
end_server (pthread_t *t, unsigned n)
{
  atomic_store (&stop, true);
  while (n > 0)
    pthread_join (t[--n], NULL);
}

/* ---- Shares ---- */

static void *
large_read (void *opaque)
{
  const uint64_t snapshot = (uintptr_t) opaque;
  unsigned char *buf = malloc (8 * PIECE);

  CHECK (buf != NULL);
  CHECK_EQ (request_read (&client, snapshot, buf, 8 * PIECE, 5), 0);
  CHECK_EQ (buf[8 * PIECE - 1], byte_at (snapshot, 8 * PIECE + 4));
  free (buf);
  return NULL;
}

/* Nobody answers: the threads of a client hold its share, of which one
 * snapshot gets a part only, and control requests need none.
 */
static void
test_shares (void)
{
  pthread_t threads[6], server;
  struct cbw_control rq = { .speed = 41 };
  unsigned i;

  start ();
  for (i = 0; i < 3; ++i)
    start_thread (&threads[i], large_read, 7);
  wait_submitted (SLOTS_PER_SNAPSHOT);
  unit_give_time ();
  CHECK_EQ (slots_count (m, SLOT_FREE), CBW_NR_SLOTS - SLOTS_PER_SNAPSHOT);
  for (; i < 6; ++i)
    start_thread (&threads[i], large_read, 8);
  wait_submitted (SLOTS_PER_CLIENT);
  unit_give_time ();
  CHECK_EQ (slots_count (m, SLOT_FREE), CBW_NR_SLOTS - SLOTS_PER_CLIENT);
  CHECK_EQ (slots_held (m, client.owner), SLOTS_PER_CLIENT);

  start_thread (&server, server_thread, 0);
  CHECK_EQ (request_control (&client, CBW_REQUEST_JOB, 3, &rq), 0);
  CHECK_EQ (rq.held_ns, 42);
  for (i = 0; i < 6; ++i)
    pthread_join (threads[i], NULL);
  end_server (&server, 1);
  CHECK_EQ (slots_count (m, SLOT_FREE), CBW_NR_SLOTS);
  CHECK_EQ (client.share.held, 0);
  CHECK_EQ (client.snapshots[7].held, 0);
  end ();
}

/* Others have all slots but those kept for control. */
static void
test_control_when_full (void)
{
  struct cbw_control rq = { .speed = 1 };
  const uint32_t other = slot_owner (9, 9);
  pthread_t server;
  unsigned i;

  start ();
  while (slot_claim (m, other, false) != -1)
    ;
  start_thread (&server, server_thread, 0);
  CHECK_EQ (request_control (&client, CBW_REQUEST_JOB, 3, &rq), 0);
  CHECK_EQ (rq.held_ns, 2);
  end_server (&server, 1);
  for (i = 0; i < SLOTS_FOR_ALL; ++i)
    slot_abandon (m, i, other);
  end ();
}

/* The same of the client table. */
static void
test_many_clients (void)
{
  static struct client clients[CBW_NR_CLIENTS];
  unsigned i, n;
  struct error e;

  start ();                     /* has an entry */
  for (n = 1; n < CLIENTS_FOR_ALL; ++n)
    CHECK (attach (&clients[n], "reader", false, &e) == 0);
  CHECK (attach (&clients[n], "reader", false, &e) == -1);
  CHECK_ERROR (&e, EUSERS, "has 60 clients already");
  for (; n < CBW_NR_CLIENTS; ++n)
    CHECK (attach (&clients[n], "tool", true, &e) == 0);
  CHECK (attach (&clients[0], "tool", true, &e) == -1);
  CHECK_ERROR (&e, EUSERS, "has 64 clients already");
  for (i = 1; i < CBW_NR_CLIENTS; ++i)
    client_detach (&clients[i]);
  end ();
}

/* ---- Slots that are taken back ---- */

#define ROBBED_CLIENTS 4
#define ROBBED_ROUNDS 300

static _Atomic (uint64_t) thefts;
static _Atomic (unsigned) rounds[ROBBED_CLIENTS]; /* that each has done */

/* Wait until each client has done one more than before: it gives up when it
 * has lost too many slots one after the other.
 */
static void
spare_clients (void)
{
  static unsigned before[ROBBED_CLIENTS];
  unsigned i;

  for (i = 0; i < ROBBED_CLIENTS; ++i) {
    while (!atomic_load (&stop) && atomic_load (&rounds[i]) < ROBBED_ROUNDS &&
           atomic_load (&rounds[i]) == before[i])
      usleep (100);
    before[i] = atomic_load (&rounds[i]);
  }
}

/* Takes every reply back that it finds, sooner than any server would. */
static void *
thief_thread (void *opaque)
{
  uint64_t seed = 1;
  unsigned i;

  (void) opaque;
  while (!atomic_load (&stop)) {
    i = (unsigned) (unit_random (&seed) % 8);
    if (!slot_finish (m, i, client.owner))
      continue;
    if (atomic_fetch_add (&thefts, 1) % 20 == 19)
      spare_clients ();
    usleep (unit_random (&seed) % 500);
  }
  return NULL;
}

static int
check_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t type)
{
  uint64_t *next = opaque;

  CHECK_EQ (offset, next[0]);
  CHECK_EQ (length, next[1] + 1 + (type != 0));
  next[0] += length;
  return 0;
}

static void *
robbed_client (void *opaque)
{
  uint64_t seed = (uintptr_t) opaque, offset, count, snapshot, n;
  unsigned char *buf = malloc (4 * PIECE);
  struct cbw_control rq;
  uint64_t next[2];
  unsigned round;

  CHECK (buf != NULL);
  for (round = 0; round < ROBBED_ROUNDS; ++round) {
    atomic_store (&rounds[(uintptr_t) opaque - 1], round);
    snapshot = unit_random (&seed) % 3;
    offset = unit_random (&seed) % 100000;
    switch (unit_random (&seed) % 4) {
    case 0:
      rq = (struct cbw_control) { .speed = offset };
      CHECK_EQ (request_control (&client, CBW_REQUEST_JOB, 3, &rq), 0);
      CHECK_EQ (rq.held_ns, offset + 1);
      break;
    case 1:
      next[0] = next[1] = offset;
      CHECK_EQ (request_extents (&client, snapshot, 1, offset, SIZE,
                                 check_extent, next), 0);
      break;
    default:
      count = 1 + unit_random (&seed) %
        (unit_random (&seed) % 8 ? 3000 : 4 * PIECE);
      memset (buf, 0xee, count);
      CHECK_EQ (request_read (&client, snapshot, buf, count, offset), 0);
      for (n = 0; n < count; ++n)
        if (buf[n] != byte_at (snapshot, offset + n))
          CHECK_EQ (buf[n], byte_at (snapshot, offset + n));
    }
  }
  atomic_store (&rounds[(uintptr_t) opaque - 1], ROBBED_ROUNDS);
  free (buf);
  return NULL;
}

/* However often slots are taken back, and have gone to another thread of the
 * client by then, every reply is the right one.
 */
static void
test_robbed (void)
{
  pthread_t servers[3], clients[ROBBED_CLIENTS];
  unsigned i;

#if defined(__SANITIZE_THREAD__)
  return;                       /* it looks at what is thrown away */
#endif
  start ();
  for (i = 0; i < 2; ++i)
    start_thread (&servers[i], server_thread, 0);
  start_thread (&servers[2], thief_thread, 0);
  for (i = 0; i < ROBBED_CLIENTS; ++i)
    start_thread (&clients[i], robbed_client, i + 1);
  for (i = 0; i < ROBBED_CLIENTS; ++i)
    pthread_join (clients[i], NULL);
  end_server (servers, 3);
  printf ("%" PRIu64 " slots were taken back\n", thefts);
  CHECK (thefts > 10);
  CHECK_EQ (slots_count (m, SLOT_FREE), CBW_NR_SLOTS);
  CHECK_EQ (client.share.held, 0);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_shares);
  RUN (test_control_when_full);
  RUN (test_many_clients);
  RUN (test_robbed);
  return unit_end ();
}
