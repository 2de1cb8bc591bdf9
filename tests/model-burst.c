/* SPDX-License-Identifier: BSD-3-Clause */

/* Several changes of the disk at once, with a request among them. */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "backup-oracle.h"
#include "model-burst.h"
#include "model-steps.h"
#include "request/control.h"
#include "unit.h"
#include "utils/clock.h"

#define NR_REGIONS 6            /* changes in flight at once */

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
    b->result = control_drop (b->client, b->snap->name, 0, 0, &b->error);
    break;
  case BACKUP:                  /* slowly, so that it can be read */
    b->result = backup_begin (b->backup, b->client, 1, &b->error);
    break;
  default:
    b->result = control_drop_id (b->client, b->backup->id, 0, 0, &b->error);
  }
  return NULL;
}

/* What to ask for among the changes, if that is possible now. */
static void
burst_choose (struct burst *b, bool end_filter)
{
  struct backup *backup = &backups.list[below (NR_BACKUPS)];
  const uint64_t dice = unit_random (&steps.seed);
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
    steps.lost++;
  else if (b->result == -1 && makes)
    check_refused (name, false, target, &b->error);
  else {
    REQUIRE (b->result == 0, "%s: %s", name, b->error.msg);
    REQUIRE (there == makes, "%s: it was said to be done, and is not", name);
  }
  steps.last_end = now_monotonic_ns ();
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
    steps.kills++;
  else
    steps.stops++;
}

void
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
  steps.changes += NR_REGIONS;
  if (end_filter) {
    live_check_targets (map (), model.dir);
    for (i = 0; i < 4 && model.nr_snaps > 0; ++i)
      compare (&model.snaps[below (model.nr_snaps)], model.size, 0);
    if (below (8) == 0)
      compare_all ();
  }
}
