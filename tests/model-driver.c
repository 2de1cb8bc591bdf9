/* SPDX-License-Identifier: BSD-3-Clause */

/* Both servers against a model of them: a copy of the disk, and one more
 * for each snapshot and for each backup.
 *
 *   model-driver dir=DIR size=BYTES [seed=N] [steps=N] [seconds=N]
 *
 * Steps are drawn from the seed: the guest changes the disk, snapshots and
 * checkpoints are made, dropped and read, backups are begun, controlled and
 * cancelled, images are brought up to date, servers are killed and started
 * again, also in the middle of all that.  Every byte of every read is
 * compared, of every delta, and of every complete image.  An image is then
 * filled with rubbish and removed, unless it is to be brought up to date.
 * What was under way when the filter died may or may not have happened: the
 * model looks, and it must be one or the other.  Runs for so many steps, and
 * as many more as fit in so many seconds.
 *
 * The disk is DIR/disk.img, the segment DIR/shm; see live-env.h.
 */

#include <config.h>

#include <signal.h>

#include "increment-oracle.h"
#include "model-burst.h"
#include "model-oracle.h"
#include "model-steps.h"
#include "points-oracle.h"
#include "unit.h"
#include "utils/clock.h"

static unsigned goal;           /* how many snapshots there are to be */

static void
step_restart_plugin (void)
{
  unsigned i;

  for (i = 0; i < model.nr_snaps; ++i)
    snap_disconnect (&model.snaps[i]);
  server_stop (&model.plugin, below (2) ? SIGKILL : SIGTERM);
  server_start (&model.plugin);
  steps.plugins++;
}

static void
step (void)
{
  const uint64_t dice = below (1000);

  check_dying (false);
  backups_check ();
  increments_check ();
  if (dice % 8 == 0)
    increments_check_marks (NULL);
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
  else if (dice < 180)
    step_increment ();
  else if (dice < 195)
    step_checkpoint ();
  else if (dice < 225)
    step_delta ();
  else if (dice < 620)
    step_change ();
  else
    step_read ();
}

/* Nothing is left of anything. */
static void
end_all (void)
{
  increments_end (&steps.seed);
  backups_end (&steps.seed);
  compare_all ();
  points_check (is_dying);
  drop_all (&steps.seed);
  points_drop_all (&steps.seed);
}

int
main (int argc, char **argv)
{
  uint64_t least, deadline, n, first;

  (void) argc;
  first = steps.seed = live_number (argv, "seed", 1);
  least = live_number (argv, "steps", 0);
  deadline = now_monotonic_ns () +
    live_number (argv, "seconds", 0) * NS_PER_SEC;

  model_start (argv);
  increments_start ();
  for (n = 0; n < least || now_monotonic_ns () < deadline; ++n) {
    snprintf (live_context, sizeof live_context,
              "seed %" PRIu64 ", step %" PRIu64, first, n);
    step ();
  }
  compare_all ();
  end_all ();
  step_burst (true);            /* and once more, from nothing */
  compare_all ();
  end_all ();
  printf ("%" PRIu64 " steps: %" PRIu64 " changes, %" PRIu64 " reads, %"
          PRIu64 " creates (%" PRIu64 " owned, %" PRIu64 " refused), %" PRIu64
          " drops, %" PRIu64 " kills and %" PRIu64 " restarts of the filter (%"
          PRIu64 " replies lost), %" PRIu64 " of the plugin\n", n,
          steps.changes, model.reads, model.creates, steps.owned, steps.full,
          model.drops, steps.kills, steps.stops, steps.lost, steps.plugins);
  printf ("%" PRIu64 " backups: %" PRIu64 " complete, of which %" PRIu64
          " nobody asked for; %" PRIu64 " cancelled\n", backups.begun,
          backups.completed, backups.evicted, backups.cancelled);
  printf ("%" PRIu64 " checkpoints made, %" PRIu64 " left by snapshots, %"
          PRIu64 " dropped; %" PRIu64 " deltas\n", points.made, points.kept,
          points.dropped, points.deltas);
  printf ("%" PRIu64 " increments: %" PRIu64 " of all, %" PRIu64
          " complete, %" PRIu64 " cancelled; %" PRIu64 " refused\n",
          increments.begun, increments.full, increments.completed,
          increments.cancelled, increments.refused);

  model_end ();
  return 0;
}
