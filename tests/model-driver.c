/* SPDX-License-Identifier: BSD-3-Clause */

/* Both servers against a model of them: a copy of the disk, and one more
 * for each snapshot and for each backup.
 *
 *   model-driver dir=DIR size=BYTES [seed=N] [steps=N] [seconds=N]
 *
 * Steps are drawn from the seed: the guest changes the disk, snapshots are
 * made, dropped and read, backups are begun, controlled and cancelled,
 * servers are killed and started again, also in the middle of all that.
 * Every byte of every read is compared, and of every complete image, which is
 * then filled with rubbish and removed.  What was under way when the filter
 * died may or may not have happened: the model looks, and it must be one or
 * the other.  Runs for so many steps, and as many more as fit in so many
 * seconds.
 *
 * The disk is DIR/disk.img, the segment DIR/shm; see live-env.h.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "backup-oracle.h"
#include "model-oracle.h"
#include "request/control.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define NR_REGIONS 6            /* changes in flight at once */
#define NR_OWNERS 4

static uint64_t seed;
static unsigned goal;

/* Owned ones whose owner has gone: by when they must be gone too. */
static struct { char name[CBW_NAME_MAX]; uint64_t deadline; } dying[NR_OWNERS];
static uint64_t last_end;       /* when something was last seen going */

static struct {
  uint64_t changes, kills, stops, plugins, lost, owned, full;
} nr;

static uint64_t
below (uint64_t max)
{
  return unit_random (&seed) % max;
}

/* ---- The guest ---- */

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
step_change (void)
{
  struct change c = random_change (0, model.size);
  int r;

  if (c.op == WRITE && below (4) == 0) /* one that changes nothing */
    memcpy (c.data, model.disk + c.offset, c.count);

  switch (c.op) {
  case WRITE: r = nbd_pwrite (model.guest, c.data, c.count, c.offset, 0); break;
  case ZERO: r = nbd_zero (model.guest, c.count, c.offset, 0); break;
  default: r = nbd_trim (model.guest, c.count, c.offset, 0);
  }
  REQUIRE (r == 0, "changing the disk: %s", nbd_get_error ());
  c.acknowledged = true;
  apply (&c);
  nr.changes++;
}

static void
step_read (void)
{
  struct snap *s;
  uint64_t count, offset;

  if (model.nr_snaps == 0)
    return;
  s = &model.snaps[below (model.nr_snaps)];
  count = 1 + below (below (4) ? min_u64 (model.size, 20000) : model.size);
  offset = below (model.size - count + 1);
  if (below (6) > 0) {
    compare (s, count, offset);
    return;
  }
  compare_extents (s, count, offset);
}

/* It was refused: the table was full, unless an end is making room just now,
 * and nothing may have changed.  "again": the name was that of a result, which
 * may be there still.
 */
static void
check_refused (const char *name, bool again, const char *target,
               const struct error *e)
{
  const bool full = live_entries (map ()) == CBW_NR_SNAPSHOTS ||
    now_monotonic_ns () < last_end + NS_PER_SEC;

  REQUIRE (e->num == ENOSPC && full, "creating %s: %s", name, e->msg);
  REQUIRE ((again || !is_listed (name)) && access (target, F_OK) == -1,
           "%s was refused, and is there", name);
  nr.full++;
}

static void
step_create (void)
{
  struct snap *s = snap_new ();
  uint64_t held_ns;
  struct error e;

  if (control_create (&model.patient, &(struct control_snapshot) {
        .name = s->name, .target = s->target }, &held_ns, &e) == -1)
    check_refused (s->name, false, s->target, &e);
  else
    snap_add (s, model.disk);
}

static bool
room_for_owner (void)
{
  unsigned i, owners = 0;

  for (i = 0; i < model.nr_snaps; ++i)
    owners += model.snaps[i].owner != NULL;
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
  REQUIRE (client_attach (s->owner, model.patient.segment.path, "owner", false,
                          10 * NS_PER_SEC, &e) == 0, "%s", e.msg);
  if (control_create (s->owner, &(struct control_snapshot) {
        .name = s->name, .target = s->target,
        .flags = CBW_CREATE_OWNED }, &held_ns, &e) == 0) {
    snap_add (s, model.disk);
    nr.owned++;
    return;
  }
  check_refused (s->name, false, s->target, &e);
  client_detach (s->owner);
  free (s->owner);
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
    last_end = now;
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
  struct snap *s, *r = &model.snaps[0];

  for (s = model.snaps; s < model.snaps + model.nr_snaps; ++s)
    if (strtoull (s->name + 1, NULL, 10) < strtoull (r->name + 1, NULL, 10))
      r = s;
  return r;
}

static void
step_drop (void)
{
  struct snap *s;
  struct error e;

  if (model.nr_snaps == 0)
    return;
  s = below (3) ? &model.snaps[below (model.nr_snaps)] : oldest ();
  if (s->owner && below (2) && step_owner_ends (s))
    return;
  REQUIRE (control_drop (&model.patient, s->name, 0, &e) == 0,
           "dropping %s: %s", s->name, e.msg);
  check_dropped (s);
  if (s->owner)
    owner_end (s);
  snap_remove (s);
  last_end = now_monotonic_ns (); /* of hidden ones, too */
}

/* All that is drawn is drawn first: how far backups are is no part of the
 * seed.
 */
static void
step_backup (void)
{
  static const uint64_t speeds[] = { 0, 1, 100000, 1000000 };
  struct backup *b = &backups.list[below (NR_BACKUPS)];
  const uint64_t dice = unit_random (&seed), speed = speeds[below (4)];
  const bool again = dice % 3 == 0;
  struct error e;

  if (b->running) {
    backup_control (b, dice);
    last_end = now_monotonic_ns ();
  }
  else if (b->left) {
    REQUIRE (unlink (b->image) == 0, "%s: %m", b->image);
    b->left = false;
  }
  else {
    backup_new (b, again, dice % 5 == 0, dice);
    if (backup_begin (b, &model.patient, speed, &e) == 0)
      backup_add (b, model.disk);
    else {
      backup_refused (b);
      check_refused (b->name, again, b->image, &e);
    }
  }
}

/* ---- All at once, and servers that end ---- */

enum control { NOTHING, CREATE, DROP, BACKUP, CANCEL };

struct burst {
  struct change changes[NR_REGIONS];
  enum control control;
  struct snap *snap;            /* to be made or dropped */
  struct backup *backup;        /* to be begun or cancelled */
  struct client *client;
  int result;
  struct error error;
};

static void *
burst_control (void *opaque)
{
  struct burst *b = opaque;
  uint64_t held_ns;

  switch (b->control) {
  case CREATE:
    b->result = control_create (b->client, &(struct control_snapshot) {
        .name = b->snap->name, .target = b->snap->target }, &held_ns,
      &b->error);
    break;
  case DROP:
    b->result = control_drop (b->client, b->snap->name, 0, &b->error);
    break;
  case BACKUP:                  /* slowly, so that it can be read */
    b->result = backup_begin (b->backup, b->client, 1, &b->error);
    break;
  default:
    b->result = control_drop_id (b->client, b->backup->id, 0, &b->error);
  }
  return NULL;
}

/* What to ask for among the changes, if that is possible now. */
static void
burst_choose (struct burst *b, bool end_filter)
{
  struct backup *backup = &backups.list[below (NR_BACKUPS)];
  const uint64_t dice = unit_random (&seed);
  const bool patient = !end_filter || below (5) > 0;

  b->control = below (5);
  b->client = patient ? &model.patient : &model.impatient;
  if ((b->control == DROP && model.nr_snaps == 0) ||
      (b->control == BACKUP && (backup->running || backup->left)) ||
      (b->control == CANCEL && !backup->running))
    b->control = NOTHING;
  if (b->control == CREATE)
    b->snap = snap_new ();
  else if (b->control == DROP)
    b->snap = &model.snaps[dice % model.nr_snaps];
  else if (b->control == BACKUP)
    backup_new (backup, dice % 3 == 0, dice % 5 == 0, dice);
  b->backup = backup;
}

static void
burst_submit (struct burst *b)
{
  const uint64_t region = model.size / NR_REGIONS;
  struct change *c;
  unsigned i;

  for (i = 0; i < NR_REGIONS; ++i) {
    c = &b->changes[i];
    *c = random_change (i * region,
                        i + 1 == NR_REGIONS ? model.size : (i + 1) * region);
    if (c->op == TRIM)
      c->op = ZERO;
    c->cookie = c->op == ZERO ?
      nbd_aio_zero (model.guest, c->count, c->offset, NBD_NULL_COMPLETION, 0) :
      nbd_aio_pwrite (model.guest, c->data, c->count, c->offset,
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
    r = nbd_aio_command_completed (model.guest,
                                   (uint64_t) b->changes[i].cookie);
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
    if (nbd_poll (model.guest, us ? 1 : -1) == -1) {
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
    server_stop (&model.filter, SIGKILL);
  else
    kill (model.filter.pid, SIGTERM);
  burst_run (b, 10000);
  nbd_close (model.guest);
  model.guest = NULL;
  if (!by_force)
    server_stop (&model.filter, SIGTERM);
}

/* What model.buf has of the view of "name" was made among the changes: each
 * byte is from before or from after, and stays so.
 */
static void
check_cut (const struct burst *b, const char *name,
           const unsigned char *before)
{
  const struct change *c;
  uint64_t i;
  unsigned n;

  for (i = n = 0; i < model.size; ++i) {
    for (; n < NR_REGIONS && i >= b->changes[n].offset + b->changes[n].count;
         ++n)
      ;
    c = n < NR_REGIONS && i >= b->changes[n].offset ? &b->changes[n] : NULL;
    REQUIRE (model.buf[i] == before[i] ||
             (c && model.buf[i] == c->data[i - c->offset]),
             "%s: byte %" PRIu64 " is %02x, which the disk never held there",
             name, i, model.buf[i]);
  }
}

static void
resolve_snapshot (struct burst *b, bool there, const unsigned char *before)
{
  if (b->control == CREATE && there) {
    snap_read (b->snap, model.size, 0);
    check_cut (b, b->snap->name, before);
    snap_add (b->snap, model.buf);
  }
  else if (b->control == DROP && there)
    compare (b->snap, model.size, 0);
  else if (b->control == DROP) {
    check_dropped (b->snap);
    if (b->snap->owner)
      owner_end (b->snap);
    snap_remove (b->snap);
  }
}

static void
resolve_backup (struct burst *b, bool there, const unsigned char *before)
{
  if (b->control == BACKUP && there) {
    backup_add (b->backup, before);
    backup_read (b->backup);
    check_cut (b, b->backup->name, before);
    memcpy (b->backup->data, model.buf, model.size);
    backup_control (b->backup, b->backup->dice);
  }
  else if (b->control == CANCEL && !there)
    backup_cancelled (b->backup);
}

static void
burst_resolve_control (struct burst *b, const unsigned char *before)
{
  const bool of_backup = b->control == BACKUP || b->control == CANCEL;
  const char *name = of_backup ? b->backup->name : b->snap->name;
  const char *target = of_backup ? b->backup->image : b->snap->target;
  const bool makes = b->control == CREATE || b->control == BACKUP;
  bool there;

  /* The request may still be under way, unowned. */
  live_wait_slots (map (), 0);
  there = of_backup ? backup_is_listed (b->backup) : is_listed (name);
  if (b->control == BACKUP && !there)
    backup_refused (b->backup);
  if (b->result == -1 && b->error.num == ESHUTDOWN)
    nr.lost++;
  else if (b->result == -1 && makes)
    check_refused (name, false, target, &b->error);
  else {
    REQUIRE (b->result == 0, "%s: %s", name, b->error.msg);
    REQUIRE (there == makes, "%s: it was said to be done, and is not", name);
  }
  last_end = now_monotonic_ns ();
  if (of_backup)
    resolve_backup (b, there, before);
  else
    resolve_snapshot (b, there, before);
}

/* The filter ends and starts again.  Clients with patience do not notice. */
static void
restart_filter (bool by_force)
{
  server_start (&model.filter);
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
  struct burst b = { .control = NOTHING };
  pthread_t thread;
  unsigned i;

  if (before == NULL)
    before = malloc (model.size);
  CHECK (before != NULL);
  memcpy (before, model.disk, model.size);
  burst_choose (&b, end_filter);

  burst_submit (&b);
  if (b.control != NOTHING)
    CHECK (pthread_create (&thread, NULL, burst_control, &b) == 0);
  if (end_filter) {
    burst_run (&b, 1 + (UINT64_C (1) << below (13)));
    burst_end_filter (&b, by_force);
    if (b.control != NOTHING && b.client == &model.impatient)
      pthread_join (thread, NULL);
    restart_filter (by_force);
    if (b.control != NOTHING && b.client == &model.patient)
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
    live_check_targets (map (), model.dir);
    for (i = 0; i < 4 && model.nr_snaps > 0; ++i)
      compare (&model.snaps[below (model.nr_snaps)], model.size, 0);
    if (below (8) == 0)
      compare_all ();
  }
}

static void
step_restart_plugin (void)
{
  unsigned i;

  for (i = 0; i < model.nr_snaps; ++i)
    snap_disconnect (&model.snaps[i]);
  server_stop (&model.plugin, below (2) ? SIGKILL : SIGTERM);
  server_start (&model.plugin);
  nr.plugins++;
}

/* ---- The whole ---- */

static void
step (void)
{
  const uint64_t dice = below (1000);

  check_dying (false);
  backups_check ();
  if (dice < 15)
    step_burst (true);
  else if (dice < 18)
    step_restart_plugin ();
  else if (dice < 40)
    step_burst (false);
  else if (dice < 50)
    step_create_owned ();
  else if (dice < 80)
    step_backup ();
  else if (dice < 150) {
    /* Towards the goal, and not straight. */
    if (model.nr_snaps == goal)
      goal = below (2) ? below (8) : below (CBW_NR_SNAPSHOTS + 1);
    if (below (4) == 0 ? model.nr_snaps > goal : model.nr_snaps < goal)
      step_create ();
    else
      step_drop ();
  }
  else if (dice < 600)
    step_change ();
  else
    step_read ();
}

int
main (int argc, char **argv)
{
  uint64_t steps, deadline, n, first;

  (void) argc;
  first = seed = live_number (argv, "seed", 1);
  steps = live_number (argv, "steps", 0);
  deadline = now_monotonic_ns () +
    live_number (argv, "seconds", 0) * NS_PER_SEC;

  model_start (argv);
  for (n = 0; n < steps || now_monotonic_ns () < deadline; ++n) {
    snprintf (live_context, sizeof live_context,
              "seed %" PRIu64 ", step %" PRIu64, first, n);
    step ();
  }
  compare_all ();
  backups_end (&seed);
  compare_all ();
  drop_all (&seed);
  step_burst (true);            /* and once more, from nothing */
  compare_all ();
  backups_end (&seed);
  drop_all (&seed);
  printf ("%" PRIu64 " steps: %" PRIu64 " changes, %" PRIu64 " reads, %"
          PRIu64 " creates (%" PRIu64 " owned, %" PRIu64 " refused), %" PRIu64
          " drops, %" PRIu64 " kills and %" PRIu64 " restarts of the filter (%"
          PRIu64 " replies lost), %" PRIu64 " of the plugin\n", n, nr.changes,
          model.reads, model.creates, nr.owned, nr.full, model.drops, nr.kills,
          nr.stops, nr.lost, nr.plugins);
  printf ("%" PRIu64 " backups: %" PRIu64 " complete, of which %" PRIu64
          " nobody asked for; %" PRIu64 " cancelled\n", backups.begun,
          backups.completed, backups.evicted, backups.cancelled);

  model_end ();
  return 0;
}
