/* SPDX-License-Identifier: BSD-3-Clause */

/* Several changes of the disk at once, with a request among them. */

#include <config.h>

#include <pthread.h>
#include <signal.h>

#include "model-ask.h"
#include "model-burst.h"
#include "model-steps.h"
#include "unit.h"
#include "utils/clock.h"

struct burst {
  struct change changes[NR_REGIONS];
  struct ask ask;
};

/* Up to "pause" microseconds between each two. */
static void
burst_submit (struct burst *b, uint64_t pause)
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
    if (pause > 0)
      live_sleep_us (below (pause));
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
  const bool by_force = below (4) > 0, spread = below (2);
  struct burst b;
  pthread_t thread;
  struct point point;
  unsigned i;
  bool asked;

  if (before == NULL)
    before = malloc (model.size);
  CHECK (before != NULL);
  memcpy (before, model.disk, model.size);
  ask_choose (&b.ask, end_filter);
  asked = b.ask.kind != ASK_NOTHING;

  /* The moment of what is made comes later than most changes, unless these
   * take their time.
   */
  if (asked && spread)
    CHECK (pthread_create (&thread, NULL, ask_run, &b.ask) == 0);
  burst_submit (&b, spread ? 300 : 0);
  if (asked && !spread)
    CHECK (pthread_create (&thread, NULL, ask_run, &b.ask) == 0);
  if (end_filter) {
    burst_run (&b, 1 + (UINT64_C (1) << below (13)));
    burst_end_filter (&b, by_force);
    if (asked && b.ask.client == &model.impatient)
      pthread_join (thread, NULL);
    increments_check_marks (b.ask.image);
    restart_filter (by_force);
    if (asked && b.ask.client == &model.patient)
      pthread_join (thread, NULL);
  }
  else {
    burst_run (&b, 0);
    if (asked)
      pthread_join (thread, NULL);
  }

  if (asked)
    ask_resolve (&b.ask, before, b.changes);
  for (i = 0; i < NR_REGIONS; ++i)
    apply (&b.changes[i]);
  steps.changes += NR_REGIONS;
  if (asked)
    ask_passed (&b.ask);
  if (b.ask.moment && moment_point (b.ask.moment, &point))
    delta_compare_now (b.ask.moment);
  if (end_filter) {
    live_check_targets (map (), model.dir);
    points_check (is_dying);
    for (i = 0; i < 4 && model.nr_snaps > 0; ++i)
      compare (&model.snaps[below (model.nr_snaps)], model.size, 0);
    if (below (8) == 0)
      compare_all ();
  }
}
