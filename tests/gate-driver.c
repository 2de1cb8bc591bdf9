/* SPDX-License-Identifier: BSD-3-Clause */

/* Is every snapshot a point in time?  Taken under full load, one must hold
 * with each write all those that were acknowledged before it was sent.
 *
 *   gate-driver dir=DIR creates=N [seconds=N] [seed=N]
 *
 * 16 lanes write, each with one write in flight on a connection of its
 * own.  Lane l sends its writes 1, 2, 3, ... in turn to its blocks, which
 * lie among those of the others, so that clusters are shared.  Every block
 * carries which write it is of, and how many writes of each other lane had
 * been acknowledged when it was sent.  Now of a view let h be the latest
 * write of a lane that it holds: then
 *
 *   - it holds the lane's writes up to h, each in its block, since h was
 *     sent when they had been acknowledged;
 *   - of each other lane it holds at least what the block says;
 *   - it holds what had been acknowledged before the snapshot was asked
 *     for, and nothing that was sent after it had been made.
 *
 * Snapshots are read again and again while others come and go, and dropped
 * in any order.  The disk is DIR/disk.img; see live-env.h.
 */

#include <config.h>

#include <pthread.h>
#include <signal.h>

#include "live-env.h"
#include "request/client.h"
#include "request/control.h"
#include "unit.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

#define LANES 16
#define LANE_BLOCKS 12
#define NR_BLOCKS (LANES * LANE_BLOCKS)
#define BLOCK 4096
#define SIZE (NR_BLOCKS * BLOCK)
#define KEPT 6                  /* snapshots at a time */
#define READERS 2

/* All of a block; writes count from 1, and 0 is a block never written. */
struct block {
  uint64_t lane;
  uint64_t write;
  uint64_t seen[LANES];         /* acknowledged when it was sent */
  uint64_t rest[BLOCK / 8 - LANES - 2];
};
static_assert (sizeof (struct block) == BLOCK, "block");

struct snap {
  pthread_mutex_t lock;
  char name[32];
  struct block *data;           /* NULL: there is none */
};

static const char *dir;
static struct server filter, plugin;
static struct client client;
static _Atomic (uint64_t) sent[LANES], acknowledged[LANES];
static _Atomic (bool) stop;
static struct snap snaps[KEPT];
static _Atomic (uint64_t) nr_reads;
static uint64_t seed;

/* ---- The guest ---- */

/* Which block of the disk write n of a lane goes to. */
static unsigned
block_of (unsigned lane, uint64_t n)
{
  return (unsigned) (n % LANE_BLOCKS) * LANES + lane;
}

static uint64_t
filling (const struct block *b)
{
  return b->lane * UINT64_C (0x9e3779b97f4a7c15) + b->write;
}

static void
send_write (struct nbd_handle *nbd, unsigned lane, uint64_t n)
{
  struct block b = { .lane = lane, .write = n };
  unsigned i;

  for (i = 0; i < LANES; ++i)
    b.seen[i] = atomic_load (&acknowledged[i]);
  for (i = 0; i < sizeof b.rest / sizeof b.rest[0]; ++i)
    b.rest[i] = filling (&b);
  atomic_store (&sent[lane], n);
  REQUIRE (nbd_pwrite (nbd, &b, sizeof b,
                       (uint64_t) block_of (lane, n) * BLOCK, 0) == 0,
           "lane %u: %s", lane, nbd_get_error ());
  atomic_store (&acknowledged[lane], n);
}

static void *
lane (void *opaque)
{
  const unsigned me = *(unsigned *) opaque;
  struct nbd_handle *nbd = live_connect (&filter, "");
  uint64_t n;

  REQUIRE (nbd != NULL, "lane %u: %s", me, nbd_get_error ());
  for (n = 1; !atomic_load (&stop); ++n)
    send_write (nbd, me, n);
  nbd_close (nbd);
  return NULL;
}

/* ---- The view ---- */

static void
read_view (const struct snap *s, struct block *data)
{
  struct nbd_handle *nbd = live_connect (&plugin, s->name);

  REQUIRE (nbd != NULL && nbd_get_size (nbd) == SIZE &&
           nbd_pread (nbd, data, SIZE, 0, 0) == 0, "%s: %s", s->name,
           nbd_get_error ());
  nbd_close (nbd);
}

/* The latest write of a lane. */
static const struct block *
latest (const struct snap *s, unsigned l)
{
  const struct block *b, *r = &s->data[l];
  unsigned i;

  for (i = 0; i < LANE_BLOCKS; ++i) {
    b = &s->data[i * LANES + l];
    if (b->write > r->write)
      r = b;
  }
  return r;
}

/* Each block is one write, whole, and the right one. */
static void
check_lane (const struct snap *s, unsigned l, uint64_t h)
{
  const struct block *b;
  unsigned i, j;
  uint64_t n;

  for (i = 0; i < LANE_BLOCKS; ++i) {
    b = &s->data[i * LANES + l];
    n = h - (h + LANE_BLOCKS - i) % LANE_BLOCKS; /* wraps below 0: none */
    n = n > h ? 0 : n;
    REQUIRE (b->write == n && (n == 0 || b->lane == l),
             "%s: lane %u: block %u is of write %" PRIu64 ", not %" PRIu64
             ", yet there is write %" PRIu64, s->name, l, i, b->write, n, h);
    for (j = 0; j < sizeof b->rest / sizeof b->rest[0]; ++j)
      REQUIRE (b->rest[j] == (n ? filling (b) : 0),
               "%s: lane %u: block %u is torn", s->name, l, i);
  }
}

static void
check_point_in_time (const struct snap *s, const uint64_t *before,
                     const uint64_t *after)
{
  const struct block *last[LANES];
  unsigned l, m;
  uint64_t h;

  for (l = 0; l < LANES; ++l)
    last[l] = latest (s, l);
  for (l = 0; l < LANES; ++l) {
    h = last[l]->write;
    check_lane (s, l, h);
    REQUIRE (h >= before[l] && h <= after[l], "%s: lane %u: it ends with "
             "write %" PRIu64 ", must be from %" PRIu64 " to %" PRIu64,
             s->name, l, h, before[l], after[l]);
    for (m = 0; m < LANES; ++m)
      REQUIRE (last[m]->write >= last[l]->seen[m], "%s: it holds write %"
               PRIu64 " of lane %u, which was sent after write %" PRIu64
               " of lane %u, but only %" PRIu64 " of that", s->name, h, l,
               last[l]->seen[m], m, last[m]->write);
  }
}

/* ---- Snapshots that come and go ---- */

static void
take (struct snap *s, uint64_t n, uint64_t *held_ns)
{
  uint64_t before[LANES], after[LANES];
  char target[512];
  struct error e;
  unsigned l;

  snprintf (s->name, sizeof s->name, "s%" PRIu64, n);
  snprintf (target, sizeof target, "%s/%s.cow", dir, s->name);
  for (l = 0; l < LANES; ++l)
    before[l] = atomic_load (&acknowledged[l]);
  REQUIRE (control_create (&client, &(struct control_snapshot) {
        .name = s->name, .target = target }, held_ns, &e) == 0,
           "%s", e.msg);
  for (l = 0; l < LANES; ++l)
    after[l] = atomic_load (&sent[l]);
  s->data = malloc (SIZE);
  CHECK (s->data != NULL);
  read_view (s, s->data);
  check_point_in_time (s, before, after);
}

static void
read_again (const struct snap *s, struct block *again)
{
  read_view (s, again);
  REQUIRE (memcmp (again, s->data, SIZE) == 0, "%s: it has changed", s->name);
  nr_reads++;
}

static void *
reader (void *opaque)
{
  struct block *again = malloc (SIZE);
  uint64_t my_seed = *(unsigned *) opaque;
  struct snap *s;

  CHECK (again != NULL);
  while (!atomic_load (&stop)) {
    s = &snaps[unit_random (&my_seed) % KEPT];
    pthread_mutex_lock (&s->lock);
    if (s->data)
      read_again (s, again);
    pthread_mutex_unlock (&s->lock);
    live_sleep_us (200);        /* so that others get the lock */
  }
  free (again);
  return NULL;
}

static void
drop (struct snap *s)
{
  static struct block again[NR_BLOCKS];
  struct error e;

  read_again (s, again);
  REQUIRE (control_drop (&client, s->name, 0, 0, &e) == 0, "%s", e.msg);
  free (s->data);
  s->data = NULL;
}

static int
compare_ns (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static void
come_and_go (uint64_t creates, uint64_t deadline)
{
  uint64_t n, i, *held = NULL;

  for (n = 0; n < creates || now_monotonic_ns () < deadline; ++n) {
    i = n < KEPT ? n : unit_random (&seed) % KEPT;
    held = realloc (held, (n + 1) * sizeof *held);
    CHECK (held != NULL);
    snprintf (live_context, sizeof live_context, "create %" PRIu64, n);
    LOCK_FOR_SCOPE (&snaps[i].lock);
    if (snaps[i].data)
      drop (&snaps[i]);
    take (&snaps[i], n, &held[n]);
  }
  for (i = 0; i < KEPT; ++i) {
    LOCK_FOR_SCOPE (&snaps[i].lock);
    if (snaps[i].data)
      drop (&snaps[i]);
  }
  qsort (held, n, sizeof *held, compare_ns);
  printf ("%" PRIu64 " snapshots; writes were held for %" PRIu64
          " us (median), %" PRIu64 " us (most)\n", n, held[n / 2] / 1000,
          held[n - 1] / 1000);
  free (held);
}

static void
start (char **argv)
{
  char path[256];
  struct error e;

  dir = live_arg (argv, "dir", NULL);
  seed = live_number (argv, "seed", 1);
  snprintf (path, sizeof path, "%s/disk.img", dir);
  REQUIRE (truncate (path, SIZE) == 0, "%s: %m", path);
  server_init (&filter, dir, "disk");
  server_init (&plugin, dir, "snap");
  server_start (&filter);
  server_start (&plugin);
  snprintf (path, sizeof path, "%s/shm", dir);
  REQUIRE (client_attach (&client, path, "gate", false, 0, &e) == 0, "%s", e.msg);
}

int
main (int argc, char **argv)
{
  unsigned numbers[LANES + READERS], i;
  pthread_t threads[LANES + READERS];
  uint64_t writes = 0;

  (void) argc;
  start (argv);
  for (i = 0; i < KEPT; ++i)
    pthread_mutex_init (&snaps[i].lock, NULL);
  for (i = 0; i < LANES + READERS; ++i) {
    numbers[i] = i;
    CHECK (pthread_create (&threads[i], NULL, i < LANES ? lane : reader,
                           &numbers[i]) == 0);
  }
  come_and_go (live_number (argv, "creates", 40), now_monotonic_ns () +
               live_number (argv, "seconds", 0) * NS_PER_SEC);
  atomic_store (&stop, true);
  for (i = 0; i < LANES + READERS; ++i)
    pthread_join (threads[i], NULL);
  for (i = 0; i < LANES; ++i)
    writes += atomic_load (&sent[i]);
  printf ("%" PRIu64 " writes, %" PRIu64 " reads\n", writes, nr_reads);

  live_wait_entries (&client.segment.map, 0);
  live_wait_slots (&client.segment.map, 0);
  live_check_targets (&client.segment.map, dir);
  live_check_open_files (&filter);
  client_detach (&client);
  server_stop (&plugin, SIGTERM);
  server_stop (&filter, SIGTERM);
  return 0;
}
