/* SPDX-License-Identifier: BSD-3-Clause */

/* Both servers against a model of them: a copy of the disk, and one more
 * for each snapshot.
 *
 *   model dir=DIR size=BYTES [seed=N] [steps=N] [seconds=N]
 *
 * Steps are drawn from the seed: the guest changes the disk, snapshots are
 * made, dropped and read, servers are killed and started again, also in
 * the middle of all that.  Every byte of every read is compared.  What was
 * under way when the filter died may or may not have happened: the model
 * looks, and it must be one or the other.  Runs for so many steps, and as
 * many more as fit in so many seconds.
 *
 * The disk is DIR/disk.img, the segment DIR/shm; see live.h.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "client.h"
#include "clock.h"
#include "control.h"
#include "live.h"
#include "rounding.h"
#include "snaptab.h"
#include "unit.h"

#define NR_REGIONS 6            /* changes in flight at once */
#define NR_OWNERS 4

struct snap {
  char name[CBW_NAME_MAX];
  char target[CBW_TARGET_MAX];
  unsigned char *data;
  struct nbd_handle *nbd;       /* NULL: not connected */
  struct client *owner;         /* NULL: it stays until dropped */
};

static const char *dir;
static uint64_t size, seed;
static struct server filter, plugin;
static struct nbd_handle *guest;
static struct client patient, impatient; /* with and without timeout */

static unsigned char *disk, *buf;
static struct snap snaps[CBW_NR_SNAPSHOTS + 1]; /* one that is refused */
static unsigned nr_snaps, goal;
static uint64_t next_name;

/* Owned ones whose owner has gone: by when they must be gone too. */
static struct { char name[CBW_NAME_MAX]; uint64_t deadline; } dying[NR_OWNERS];

static struct {
  uint64_t changes, reads, creates, drops, kills, stops, plugins, lost, owned,
    full;
} nr;

static uint64_t
below (uint64_t max)
{
  return unit_random (&seed) % max;
}

static const struct cbw_map *
map (void)
{
  return &patient.segment.map;
}

/* ---- The guest ---- */

enum op { WRITE, ZERO, TRIM };

struct change {
  enum op op;
  uint64_t offset, count;
  unsigned char *data;          /* what it makes of the range */
  int64_t cookie;
  bool acknowledged;
};

static void
guest_connect (void)
{
  if (guest)
    nbd_close (guest);
  guest = live_connect (&filter, "");
  REQUIRE (guest != NULL, "the guest: %s", nbd_get_error ());
  REQUIRE (nbd_get_size (guest) == (int64_t) size, "the disk's size is %" PRIi64,
           nbd_get_size (guest));
}

/* A random change of [from, to). */
static struct change
random_change (uint64_t from, uint64_t to)
{
  struct change c = { .op = below (4) };
  uint64_t i, max = to - from;

  if (c.op > TRIM)
    c.op = WRITE;
  if (below (3) > 0)            /* most are small */
    max = min_u64 (max, 9000);
  c.count = 1 + below (max);
  c.offset = from + below (to - from - c.count + 1);
  if (below (4) == 0)           /* along clusters */
    c.offset = max_u64 (from, round_down (c.offset, 4096));
  c.data = calloc (1, c.count);
  CHECK (c.data != NULL);
  for (i = 0; c.op == WRITE && i < c.count; ++i)
    c.data[i] = (unsigned char) (i % 8 ? c.data[i - 1] + 7u : below (256));
  return c;
}

static void
read_disk (void *to, uint64_t count, uint64_t offset)
{
  REQUIRE (nbd_pread (guest, to, count, offset, 0) == 0, "reading the disk: %s",
           nbd_get_error ());
}

/* The change was not acknowledged, or is a trim, which promises nothing:
 * each byte is the one or the other.
 */
static void
adopt (const struct change *c)
{
  uint64_t i;

  read_disk (buf, c->count, c->offset);
  for (i = 0; i < c->count; ++i)
    REQUIRE (buf[i] == disk[c->offset + i] || buf[i] == c->data[i],
             "byte %" PRIu64 " of the disk is %02x, neither %02x nor %02x",
             c->offset + i, buf[i], disk[c->offset + i], c->data[i]);
  memcpy (disk + c->offset, buf, c->count);
}

static void
apply (struct change *c)
{
  if (c->acknowledged && c->op != TRIM)
    memcpy (disk + c->offset, c->data, c->count);
  else
    adopt (c);
  free (c->data);
}

static void
step_change (void)
{
  struct change c = random_change (0, size);
  int r;

  switch (c.op) {
  case WRITE: r = nbd_pwrite (guest, c.data, c.count, c.offset, 0); break;
  case ZERO: r = nbd_zero (guest, c.count, c.offset, 0); break;
  default: r = nbd_trim (guest, c.count, c.offset, 0);
  }
  REQUIRE (r == 0, "changing the disk: %s", nbd_get_error ());
  c.acknowledged = true;
  apply (&c);
  nr.changes++;
}

/* ---- Reading ---- */

static void
snap_disconnect (struct snap *s)
{
  if (s->nbd)
    nbd_close (s->nbd);
  s->nbd = NULL;
}

static void
snap_connect (struct snap *s)
{
  if (s->nbd)
    return;
  s->nbd = live_connect (&plugin, s->name);
  REQUIRE (s->nbd != NULL, "%s: %s", s->name, nbd_get_error ());
  REQUIRE (nbd_get_size (s->nbd) == (int64_t) size, "%s: its size is %" PRIi64,
           s->name, nbd_get_size (s->nbd));
}

static void
snap_read (struct snap *s, uint64_t count, uint64_t offset)
{
  snap_connect (s);
  REQUIRE (nbd_pread (s->nbd, buf, count, offset, 0) == 0, "%s: %s", s->name,
           nbd_get_error ());
  nr.reads++;
}

static void
compare (struct snap *s, uint64_t count, uint64_t offset)
{
  uint64_t i;

  snap_read (s, count, offset);
  for (i = 0; i < count; ++i)
    REQUIRE (buf[i] == s->data[offset + i], "%s: byte %" PRIu64 " is %02x, "
             "not %02x (read of %" PRIu64 " at %" PRIu64 ")", s->name,
             offset + i, buf[i], s->data[offset + i], count, offset);
}

static void
compare_all (void)
{
  unsigned i;

  for (i = 0; i < nr_snaps; ++i)
    compare (&snaps[i], size, 0);
  read_disk (buf, size, 0);
  REQUIRE (memcmp (buf, disk, size) == 0, "the disk is not what was written");
}

/* What is called zero is. */
static int
check_extents (void *opaque, const char *context, uint64_t offset,
               uint32_t *entries, size_t n, int *error)
{
  const struct snap *s = opaque;
  uint64_t end;

  (void) context;
  (void) error;
  for (; n >= 2; entries += 2, n -= 2) {
    end = min_u64 (offset + entries[0], size);
    for (; offset < end; ++offset)
      REQUIRE (!(entries[1] & LIBNBD_STATE_ZERO) || s->data[offset] == 0,
               "%s: byte %" PRIu64 " is called zero, and is %02x", s->name,
               offset, s->data[offset]);
  }
  return 0;
}

static void
step_read (void)
{
  struct snap *s;
  uint64_t count, offset;

  if (nr_snaps == 0)
    return;
  s = &snaps[below (nr_snaps)];
  count = 1 + below (below (4) ? min_u64 (size, 20000) : size);
  offset = below (size - count + 1);
  if (below (6) > 0) {
    compare (s, count, offset);
    return;
  }
  snap_connect (s);
  REQUIRE (nbd_block_status (s->nbd, count, offset, (nbd_extent_callback) {
        .callback = check_extents, .user_data = s }, 0) == 0,
    "%s: %s", s->name, nbd_get_error ());
}

/* ---- Making and dropping ---- */

static struct snap *
snap_new (void)
{
  struct snap *s = &snaps[nr_snaps];

  memset (s, 0, sizeof *s);
  snprintf (s->name, sizeof s->name, "s%" PRIu64, next_name++);
  snprintf (s->target, sizeof s->target, "%s/s%" PRIu64 ".cow", dir,
            next_name - 1);
  return s;
}

/* It was made: the model has it from now on. */
static void
snap_add (struct snap *s, const unsigned char *data)
{
  s->data = malloc (size);
  CHECK (s->data != NULL);
  memcpy (s->data, data, size);
  nr_snaps++;
  nr.creates++;
}

static void
snap_remove (struct snap *s)
{
  snap_disconnect (s);
  free (s->data);
  *s = snaps[--nr_snaps];
  nr.drops++;
}

static bool
is_listed (const char *name)
{
  struct snapshot_info info;
  const bool r = snaptab_find (map (), name, &info);

  REQUIRE (!r || info.state == CBW_SNAPSHOT_LIVE, "%s: is broken", name);
  return r;
}

/* It was refused: the table was full, unless an owner's end has made room
 * since, and nothing may have changed.
 */
static void
check_refused (const struct snap *s, const struct error *e)
{
  bool full = live_entries (map ()) == CBW_NR_SNAPSHOTS;
  unsigned i;

  for (i = 0; i < NR_OWNERS; ++i)
    full = full || dying[i].deadline > 0;
  REQUIRE (e->num == ENOSPC && full, "creating %s: %s", s->name, e->msg);
  REQUIRE (!is_listed (s->name) && access (s->target, F_OK) == -1,
           "%s was refused, and is there", s->name);
  nr.full++;
}

static void
step_create (void)
{
  struct snap *s = snap_new ();
  uint64_t held_ns;
  struct error e;

  if (control_create (&patient, s->name, s->target, 0, &held_ns, &e) == -1)
    check_refused (s, &e);
  else
    snap_add (s, disk);
}

static bool
room_for_owner (void)
{
  unsigned i, owners = 0;

  for (i = 0; i < nr_snaps; ++i)
    owners += snaps[i].owner != NULL;
  return owners < NR_OWNERS;
}

static void
step_create_owned (void)
{
  struct snap *s = snap_new ();
  uint64_t held_ns;
  struct error e;

  if (!room_for_owner ())
    return;
  s->owner = calloc (1, sizeof *s->owner);
  CHECK (s->owner != NULL);
  REQUIRE (client_attach (s->owner, patient.segment.path, "owner",
                          10 * NS_PER_SEC, &e) == 0, "%s", e.msg);
  if (control_create (s->owner, s->name, s->target, CBW_CREATE_OWNED,
                      &held_ns, &e) == 0) {
    snap_add (s, disk);
    nr.owned++;
    return;
  }
  check_refused (s, &e);
  client_detach (s->owner);
  free (s->owner);
}

static void
owner_end (struct snap *s)
{
  client_detach (s->owner);
  free (s->owner);
  s->owner = NULL;
}

static void
check_dropped (const struct snap *s)
{
  char byte;

  REQUIRE (!is_listed (s->name), "%s was dropped, and is there", s->name);
  if (s->nbd)
    REQUIRE (nbd_pread (s->nbd, &byte, 1, 0, 0) == -1 &&
             nbd_get_errno () == ESHUTDOWN, "%s was dropped: %s", s->name,
             nbd_get_error ());
}

/* Its owner ends, and the filter is to notice. */
static bool
step_owner_ends (struct snap *s)
{
  unsigned i;

  for (i = 0; i < NR_OWNERS && dying[i].deadline > 0; ++i)
    ;
  if (i == NR_OWNERS)
    return false;
  strcpy (dying[i].name, s->name);
  dying[i].deadline = now_monotonic_ns () + 2 * NS_PER_SEC;
  owner_end (s);
  snap_remove (s);
  return true;
}

static void
check_dying (bool filter_was_away)
{
  const uint64_t now = now_monotonic_ns ();
  unsigned i;

  for (i = 0; i < NR_OWNERS; ++i) {
    if (dying[i].deadline == 0)
      continue;
    if (!is_listed (dying[i].name))
      dying[i].deadline = 0;
    else if (filter_was_away)
      dying[i].deadline = now + 2 * NS_PER_SEC;
    else
      REQUIRE (now < dying[i].deadline, "%s: its owner is gone for long",
               dying[i].name);
  }
}

/* Names are numbers; with it hidden ones go. */
static struct snap *
oldest (void)
{
  struct snap *s, *r = &snaps[0];

  for (s = snaps; s < snaps + nr_snaps; ++s)
    if (strtoull (s->name + 1, NULL, 10) < strtoull (r->name + 1, NULL, 10))
      r = s;
  return r;
}

static void
step_drop (void)
{
  struct snap *s;
  struct error e;

  if (nr_snaps == 0)
    return;
  s = below (3) ? &snaps[below (nr_snaps)] : oldest ();
  if (s->owner && below (2) && step_owner_ends (s))
    return;
  REQUIRE (control_drop (&patient, s->name, &e) == 0, "dropping %s: %s",
           s->name, e.msg);
  check_dropped (s);
  if (s->owner)
    owner_end (s);
  snap_remove (s);
}

/* ---- All at once, and servers that end ---- */

enum control { NOTHING, CREATE, DROP };

struct burst {
  struct change changes[NR_REGIONS];
  enum control control;
  struct snap *snap;            /* to be made or dropped */
  struct client *client;
  int result;
  struct error error;
};

static void *
burst_control (void *opaque)
{
  struct burst *b = opaque;
  uint64_t held_ns;

  b->result = b->control == CREATE ?
    control_create (b->client, b->snap->name, b->snap->target, 0, &held_ns,
                    &b->error) :
    control_drop (b->client, b->snap->name, &b->error);
  return NULL;
}

static void
burst_submit (struct burst *b)
{
  const uint64_t region = size / NR_REGIONS;
  struct change *c;
  unsigned i;

  for (i = 0; i < NR_REGIONS; ++i) {
    c = &b->changes[i];
    *c = random_change (i * region,
                        i + 1 == NR_REGIONS ? size : (i + 1) * region);
    if (c->op == TRIM)
      c->op = ZERO;
    c->cookie = c->op == ZERO ?
      nbd_aio_zero (guest, c->count, c->offset, NBD_NULL_COMPLETION, 0) :
      nbd_aio_pwrite (guest, c->data, c->count, c->offset,
                      NBD_NULL_COMPLETION, 0);
    REQUIRE (c->cookie != -1, "%s", nbd_get_error ());
  }
}

/* Note what was acknowledged until now; true if all was. */
static bool
burst_collect (struct burst *b)
{
  bool all = true;
  unsigned i;
  int r;

  for (i = 0; i < NR_REGIONS; ++i) {
    if (b->changes[i].acknowledged)
      continue;
    r = nbd_aio_command_completed (guest, (uint64_t) b->changes[i].cookie);
    b->changes[i].acknowledged = r == 1;
    all = all && r == 1;
  }
  return all;
}

/* Let it run for so long; 0: to the end. */
static void
burst_run (struct burst *b, uint64_t us)
{
  const uint64_t deadline = now_monotonic_ns () + us * 1000;

  while (!burst_collect (b) && (us == 0 || now_monotonic_ns () < deadline))
    if (nbd_poll (guest, us ? 1 : -1) == -1) {
      REQUIRE (us > 0, "%s", nbd_get_error ());
      return;                   /* the server ends */
    }
}

/* The filter ends.  It may still answer; but it will not leave in good
 * order while it waits for the rest of a request.
 */
static void
burst_end_filter (struct burst *b, bool by_force)
{
  if (by_force)
    server_stop (&filter, SIGKILL);
  else
    kill (filter.pid, SIGTERM);
  burst_run (b, 10000);
  nbd_close (guest);
  guest = NULL;
  if (!by_force)
    server_stop (&filter, SIGTERM);
}

/* The snapshot was made among the changes: each byte is from before or
 * from after, and stays so.
 */
static void
adopt_snapshot (struct burst *b, const unsigned char *before)
{
  struct snap *s = b->snap;
  const struct change *c;
  uint64_t i;
  unsigned n;

  snap_read (s, size, 0);
  for (i = n = 0; i < size; ++i) {
    for (; n < NR_REGIONS && i >= b->changes[n].offset + b->changes[n].count;
         ++n)
      ;
    c = n < NR_REGIONS && i >= b->changes[n].offset ? &b->changes[n] : NULL;
    REQUIRE (buf[i] == before[i] || (c && buf[i] == c->data[i - c->offset]),
             "%s: byte %" PRIu64 " is %02x, which the disk never held there",
             s->name, i, buf[i]);
  }
  snap_add (s, buf);
}

static void
burst_resolve_control (struct burst *b, const unsigned char *before)
{
  bool there;

  /* The request may still be under way, unowned. */
  live_wait_slots (map (), 0);
  there = is_listed (b->snap->name);
  if (b->result == -1 && b->error.num == ESHUTDOWN)
    nr.lost++;
  else if (b->result == -1 && b->control == CREATE)
    check_refused (b->snap, &b->error);
  else {
    REQUIRE (b->result == 0, "%s: %s", b->snap->name, b->error.msg);
    REQUIRE (there == (b->control == CREATE), "%s: it was said to be done, "
             "and is not", b->snap->name);
  }

  if (b->control == CREATE && there)
    adopt_snapshot (b, before);
  else if (b->control == DROP && there)
    compare (b->snap, size, 0);
  else if (b->control == DROP) {
    check_dropped (b->snap);
    if (b->snap->owner)
      owner_end (b->snap);
    snap_remove (b->snap);
  }
}

/* The filter ends and starts again.  Clients with patience do not notice. */
static void
restart_filter (bool by_force)
{
  server_start (&filter);
  guest_connect ();
  check_dying (true);
  if (by_force)
    nr.kills++;
  else
    nr.stops++;
}

static void
step_burst (bool end_filter)
{
  static unsigned char *before;
  const bool by_force = below (4) > 0;
  struct burst b = { .control = below (3) };
  pthread_t thread;
  unsigned i;

  if (before == NULL)
    before = malloc (size);
  CHECK (before != NULL);
  memcpy (before, disk, size);
  if (b.control == DROP && nr_snaps == 0)
    b.control = NOTHING;
  if (b.control != NOTHING) {
    b.snap = b.control == CREATE ? snap_new () : &snaps[below (nr_snaps)];
    b.client = end_filter && below (5) == 0 ? &impatient : &patient;
  }

  burst_submit (&b);
  if (b.control != NOTHING)
    CHECK (pthread_create (&thread, NULL, burst_control, &b) == 0);
  if (end_filter) {
    burst_run (&b, 1 + (UINT64_C (1) << below (13)));
    burst_end_filter (&b, by_force);
    if (b.control != NOTHING && b.client == &impatient)
      pthread_join (thread, NULL);
    restart_filter (by_force);
    if (b.control != NOTHING && b.client == &patient)
      pthread_join (thread, NULL);
  }
  else {
    burst_run (&b, 0);
    if (b.control != NOTHING)
      pthread_join (thread, NULL);
  }

  if (b.control != NOTHING)
    burst_resolve_control (&b, before);
  for (i = 0; i < NR_REGIONS; ++i)
    apply (&b.changes[i]);
  nr.changes += NR_REGIONS;
  if (end_filter) {
    live_check_targets (map (), dir);
    for (i = 0; i < 4 && nr_snaps > 0; ++i)
      compare (&snaps[below (nr_snaps)], size, 0);
    if (below (8) == 0)
      compare_all ();
  }
}

static void
step_restart_plugin (void)
{
  unsigned i;

  for (i = 0; i < nr_snaps; ++i)
    snap_disconnect (&snaps[i]);
  server_stop (&plugin, below (2) ? SIGKILL : SIGTERM);
  server_start (&plugin);
  nr.plugins++;
}

/* ---- The whole ---- */

static void
step (void)
{
  const uint64_t dice = below (1000);

  check_dying (false);
  if (dice < 15)
    step_burst (true);
  else if (dice < 18)
    step_restart_plugin ();
  else if (dice < 40)
    step_burst (false);
  else if (dice < 50)
    step_create_owned ();
  else if (dice < 150) {
    /* Towards the goal, and not straight. */
    if (nr_snaps == goal)
      goal = below (2) ? below (8) : below (CBW_NR_SNAPSHOTS + 1);
    if (below (4) == 0 ? nr_snaps > goal : nr_snaps < goal)
      step_create ();
    else
      step_drop ();
  }
  else if (dice < 600)
    step_change ();
  else
    step_read ();
}

static void
drop_all (void)
{
  struct error e;
  unsigned i;

  while (nr_snaps > 0) {
    i = (unsigned) below (nr_snaps);
    REQUIRE (control_drop (&patient, snaps[i].name, &e) == 0, "%s", e.msg);
    if (snaps[i].owner)
      owner_end (&snaps[i]);
    snap_remove (&snaps[i]);
  }
  live_wait_entries (map (), 0);
  live_wait_slots (map (), 0);
  live_check_targets (map (), dir);
  live_check_open_files (&filter);
}

static void
start (void)
{
  char path[256];
  struct error e;

  snprintf (path, sizeof path, "%s/shm", dir);
  server_init (&filter, dir, "disk");
  server_init (&plugin, dir, "snap");
  server_start (&filter);
  server_start (&plugin);
  guest_connect ();
  REQUIRE (client_attach (&patient, path, "patient", 0, &e) == 0 &&
           client_attach (&impatient, path, "impatient", 0, &e) == 0,
           "%s", e.msg);
  patient.server_timeout_ns = 60 * NS_PER_SEC;
  read_disk (disk, size, 0);
}

int
main (int argc, char **argv)
{
  uint64_t steps, deadline, n, first;

  (void) argc;
  dir = live_arg (argv, "dir", NULL);
  size = live_number (argv, "size", 0);
  first = seed = live_number (argv, "seed", 1);
  steps = live_number (argv, "steps", 0);
  deadline = now_monotonic_ns () +
    live_number (argv, "seconds", 0) * NS_PER_SEC;
  disk = malloc (size);
  buf = malloc (size);
  CHECK (disk != NULL && buf != NULL);

  start ();
  for (n = 0; n < steps || now_monotonic_ns () < deadline; ++n) {
    snprintf (live_context, sizeof live_context,
              "seed %" PRIu64 ", step %" PRIu64, first, n);
    step ();
  }
  compare_all ();
  drop_all ();
  step_burst (true);            /* and once more, from nothing */
  compare_all ();
  drop_all ();
  printf ("%" PRIu64 " steps: %" PRIu64 " changes, %" PRIu64 " reads, %"
          PRIu64 " creates (%" PRIu64 " owned, %" PRIu64 " refused), %" PRIu64
          " drops, %" PRIu64 " kills and %" PRIu64 " restarts of the filter (%"
          PRIu64 " replies lost), %" PRIu64 " of the plugin\n", n, nr.changes,
          nr.reads, nr.creates, nr.owned, nr.full, nr.drops, nr.kills,
          nr.stops, nr.lost, nr.plugins);

  nbd_close (guest);
  client_detach (&patient);
  client_detach (&impatient);
  server_stop (&plugin, SIGTERM);
  server_stop (&filter, SIGTERM);
  free (disk);
  free (buf);
  return 0;
}
