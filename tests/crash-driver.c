/* SPDX-License-Identifier: BSD-3-Clause */

/* Crashes of the host, one after the other, and what they leave of the points
 * of a disk.
 *
 *   crash-driver dir=DIR [seed=N] [crashes=N] [seconds=N] [durable=1]
 *                [trace=1]
 *
 * Guests change the disk, points are made and dropped, the filter ends or is
 * killed, and then perhaps the host: then the disk and the segment become
 * something that the host could have left (crash-state.h).  The next server
 * must start on it.  Of each point that it calls valid the delta must contain
 * every byte in which the disk is not what it was at that moment.  With
 * "durable" no point may be lost that the server has said to be made; without,
 * all are invalid after a crash that came before an orderly stop.
 *
 * The disk is DIR/disk.img, the segment DIR/shm, and DIR/run-disk starts the
 * filter with crash-preload.c.
 */

#include <config.h>

#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#include "crash-model.h"
#include "crash-state.h"
#include "crash-steps.h"
#include "unit.h"
#include "utils/clock.h"

/* Has a server ended in good order? */
enum order { IN_ORDER, PERHAPS, KILLED };

static bool durable;

static struct {
  uint64_t lives, disks, crashes, kills, stops, at_start, at_end;
  struct crash_lost lost;
} counts;

static void
remove_all (const char *pattern)
{
  char path[512];
  glob_t found;
  size_t i;

  snprintf (path, sizeof path, "%s/%s", crash.dir, pattern);
  if (glob (path, 0, NULL, &found) == 0)
    for (i = 0; i < found.gl_pathc; ++i)
      unlink (found.gl_pathv[i]);
  globfree (&found);
}

/* A disk with something on it, and no segment. */
static void
new_disk (void)
{
  FILE *f;
  uint64_t i;

  while (crash.nr_points > 0)
    point_forget (&crash.points[0]);
  remove_all ("*.cow*");
  remove_all ("shm");
  remove_all ("disk.log");
  f = fopen (crash.disk_path, "w");
  REQUIRE (f != NULL && ftruncate (fileno (f), CRASH_DISK_SIZE) == 0,
           "%s: %m", crash.disk_path);
  for (i = 0; i < CRASH_PLACES; i += 8192) {
    fseek (f, (long) place_offset (i), SEEK_SET);
    fprintf (f, "%08" PRIx64, unit_random (&crash_steps.seed));
  }
  REQUIRE (fclose (f) == 0, "%s: %m", crash.disk_path);
  crash_read_file (crash.disk);
  crash_boot (&crash.files, &crash_steps.seed);
  counts.disks++;
}

static enum crash_luck
random_luck (void)
{
  return below (2) ? CRASH_RANDOM : below (CRASH_NR_LUCK);
}

static void
crash_host (void)
{
  const enum crash_luck a = random_luck (), b = random_luck ();

  crash_files_left (&crash.files, a, b, &crash_steps.seed, &counts.lost);
  TRACE ("the host crashes: %d, %d\n", a, b);
  crash_boot (&crash.files, &crash_steps.seed);
  counts.crashes++;
}

/* It may have ended by itself, too. */
static void
server_kill (void)
{
  kill (crash.filter.pid, SIGKILL);
  waitpid (crash.filter.pid, NULL, 0);
  crash.filter.pid = 0;
}

/* The filter is killed while it starts, at one of its syncs or at any time. */
static void
kill_at_start (void)
{
  const bool counted = below (4) > 0;

  if (counted)
    crash_countdown (&crash.files, 1 + (unsigned) below (24));
  server_launch (&crash.filter);
  if (counted)
    server_ready (&crash.filter);
  else
    live_sleep_us ((UINT64_C (1) << below (15)) * (1 + below (2)));
  if (crash.filter.pid)
    server_kill ();
  crash_countdown (&crash.files, 0);
  TRACE ("killed at start\n");
  counts.at_start++;
}

/* ... or when it ends. */
static enum order
kill_at_end (void)
{
  const bool counted = below (4) > 0;

  if (counted)
    crash_countdown (&crash.files, 1 + (unsigned) below (8));
  kill (crash.filter.pid, SIGTERM);
  if (counted)
    waitpid (crash.filter.pid, NULL, 0);
  else {
    live_sleep_us (UINT64_C (1) << below (15));
    server_kill ();
  }
  crash.filter.pid = 0;
  crash_countdown (&crash.files, 0);
  TRACE ("killed at its end\n");
  counts.at_end++;
  return PERHAPS;
}

/* ... or while regions get cold, as guests do nothing any more. */
static enum order
kill_when_idle (void)
{
  const uint64_t give_up = now_monotonic_ns () + 60 * NS_PER_MS;

  crash_countdown (&crash.files, 1 + (unsigned) below (12));
  while (now_monotonic_ns () < give_up && !server_killed (&crash.filter))
    live_sleep_us (500);
  if (crash.filter.pid)
    server_kill ();
  crash_countdown (&crash.files, 0);
  steps_disconnect ();
  TRACE ("killed when idle\n");
  counts.kills++;
  return KILLED;
}

/* The filter ends. */
static enum order
end_filter (void)
{
  if (below (5) == 0)
    return kill_when_idle ();
  if (below (3) > 0) {
    step_burst_killed ();
    counts.kills++;
    return KILLED;
  }
  steps_disconnect ();
  if (below (3) > 0) {
    server_stop (&crash.filter, SIGTERM);
    TRACE ("stopped\n");
    counts.stops++;
    return IN_ORDER;
  }
  return kill_at_end ();
}

/* Where the last server has ended. */
struct ending {
  enum order order;
  bool crashed;                 /* then the host went down */
};

/* The host may go down after a server has been killed that was about to start;
 * that may have been before it has changed anything.
 */
static enum promise
begin_with_kill (struct ending *end, enum promise promise)
{
  kill_at_start ();
  if (below (2))
    return promise;
  crash_host ();
  end->crashed = crash.idle_crash = true;
  return promise == LOSES ? LOSES : MAY_LOSE;
}

/* From a start of the filter to the end of the next one. */
static void
live_once (struct ending *end)
{
  enum promise promise = !end->crashed || end->order == IN_ORDER ? STAYS :
    end->order == KILLED ? LOSES : MAY_LOSE;
  uint64_t n;

  crash.idle_ns = now_realtime_ns ();
  crash_read_file (crash.idle_disk);
  crash.idle_crash = false;
  if (below (end->crashed ? 10 : 3) == 0)
    promise = begin_with_kill (end, promise);
  crash_server_gone (&crash.files);
  server_start (&crash.filter);
  steps_connect ();
  TRACE ("life %" PRIu64 "\n", counts.lives);
  crash_read_file (crash.disk);
  /* Requests that the last one has left. */
  live_wait_slots (&crash.client.segment.map, 0);
  points_check (durable ? STAYS : promise, end->crashed);
  for (n = below (20); n > 0; --n)
    if (below (6))
      step_one ();
    else
      step_burst ();
  points_compare ();
  end->order = end_filter ();
  end->crashed = below (4) > 0;
  if (end->crashed)
    crash_host ();
}

static void
report (void)
{
  const struct crash_counts *c = &crash_counts;

  printf ("%" PRIu64 " lives of %" PRIu64 " disks: %" PRIu64 " kills, %" PRIu64
          " stops, %" PRIu64 " kills at the start and %" PRIu64 " at the end; "
          "%" PRIu64 " crashes, which lost %" PRIu64 " sectors of disks and %"
          PRIu64 " pages of segments\n", counts.lives, counts.disks,
          counts.kills, counts.stops, counts.at_start, counts.at_end,
          counts.crashes, counts.lost.sectors, counts.lost.pages);
  printf ("%" PRIu64 " changes, %" PRIu64 " flushes, %" PRIu64 " points made, "
          "%" PRIu64 " dropped, %" PRIu64 " bursts\n", crash_steps.changes,
          crash_steps.flushes, crash_steps.made, crash_steps.dropped,
          crash_steps.bursts);
  printf ("after crashes: %" PRIu64 " valid points, %" PRIu64 " invalid, %"
          PRIu64 " that had been dropped; %" PRIu64 " clusters had changed, %"
          PRIu64 " were in deltas; %" PRIu64 " deltas compared\n", c->valid,
          c->invalid, c->back, c->changed, c->in_delta, c->compared);
}

static void
start (char **argv)
{
  crash.dir = live_arg (argv, "dir", NULL);
  crash.trace = live_number (argv, "trace", 0);
  durable = live_number (argv, "durable", 0);
  snprintf (crash.disk_path, sizeof crash.disk_path, "%s/disk.img",
            crash.dir);
  snprintf (crash.shm, sizeof crash.shm, "%s/shm", crash.dir);
  server_init (&crash.filter, crash.dir, "disk");
  crash.disk = malloc (CRASH_PLACES);
  crash.buf = malloc (CRASH_PLACES);
  crash.idle_disk = malloc (CRASH_PLACES);
  CHECK (crash.disk != NULL && crash.buf != NULL && crash.idle_disk != NULL);
  crash.files = (struct crash_files) {
    .dir = crash.dir, .path = { crash.shm, crash.disk_path }
  };
}

int
main (int argc, char **argv)
{
  uint64_t least, deadline, first;
  struct ending end = { .order = IN_ORDER };

  (void) argc;
  first = live_number (argv, "seed", 1);
  least = live_number (argv, "crashes", 0);
  deadline = now_monotonic_ns () +
    live_number (argv, "seconds", 0) * NS_PER_SEC;
  start (argv);

  while (counts.crashes < least || now_monotonic_ns () < deadline) {
    /* Each life has a seed of its own, but what it starts with. */
    crash_steps.seed = first * 1000000 + counts.lives;
    snprintf (live_context, sizeof live_context,
              "seed %" PRIu64 ", life %" PRIu64, first, counts.lives);
    if (counts.lives == 0 || below (12) == 0) {
      new_disk ();
      end = (struct ending) { .order = IN_ORDER };
    }
    live_once (&end);
    counts.lives++;
  }
  report ();
  REQUIRE (counts.lost.sectors > 0 && counts.lost.pages > 0,
           "no crash lost anything");
  REQUIRE (!durable || crash_counts.valid > 0, "no point was valid");
  return 0;
}
