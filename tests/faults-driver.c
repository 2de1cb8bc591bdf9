/* SPDX-License-Identifier: BSD-3-Clause */

/* The filter is killed at every call that it makes of the C library
 * (kill-preload.c) while it makes or drops a snapshot or a checkpoint, copies,
 * makes or cancels a backup, a full one or an increment, ends or starts, and
 * is started again.  What was asked for is then done if the client is still
 * there; if not, it is done or it is not, and never half.
 *
 *   faults-driver dir=DIR size=BYTES [every=N]    (each Nth point only)
 *
 * DIR/fault is the file that arms kill-preload.c.
 */

#include <config.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "faults-points.h"
#include "faults-trial.h"
#include "model-oracle.h"
#include "unit.h"

static _Atomic (int) *countdown; /* and if locks count, too */
static unsigned nr_kills;

/* Wait for the end, of the trial (false) or of the filter. */
static bool
killed (struct trial *t)
{
  while (!atomic_load (&t->finished)) {
    if (server_killed (&model.filter))
      return true;
    live_sleep_us (200);
  }
  /* The last point is behind the reply. */
  if (atomic_load (countdown) > 0)
    return false;
  REQUIRE (!server_await (&model.filter), "the filter ended");
  return true;
}

static void
restart (void)
{
  server_start (&model.filter);
  guest_connect ();
}

/* Run it in a thread and kill the filter at point n; false if it ended
 * before that.
 */
static bool
try_answered (struct trial *t, int n)
{
  pthread_t thread;
  bool r;

  t->client = &model.patient;
  atomic_store (countdown, n);
  CHECK (pthread_create (&thread, NULL, trial_run, t) == 0);
  r = killed (t);
  atomic_store (countdown, 0);
  if (r && t->what == BACKUP_FORCED)
    trial_check_replaced (t->backup);
  if (r && t->image)
    faults_points_check_mark (t);
  if (r && t->what != CHANGE)
    restart ();
  pthread_join (thread, NULL);
  if (r && t->what == CHANGE)
    restart ();
  REQUIRE (t->what == CHANGE || t->result == 0, "%s", t->error.msg);
  return r;
}

/* A client of its own asks for it, when it has armed point n; it ends with an
 * exit status of 0 if that was done.
 */
static pid_t
run_client (struct trial *t, int n)
{
  const pid_t pid = fork ();
  struct client client;
  struct error e;

  REQUIRE (pid != -1, "fork: %m");
  if (pid > 0)
    return pid;
  REQUIRE (client_attach (&client, model.patient.segment.path, "lost", false,
                          0, &e) == 0, "%s", e.msg);
  t->client = &client;
  atomic_store (countdown, n);
  trial_run (t);
  _exit (t->result == 0 ? 0 : 1);
}

/* The client dies with the filter, and the next filter will find that its
 * request belongs to nobody.
 */
static bool
try_lost (struct trial *t, int n)
{
  pid_t client, ended = 0;
  int status = 0;
  bool r = false;

  client = run_client (t, n);
  while (!r && ended == 0) {
    ended = waitpid (client, &status, WNOHANG);
    r = server_killed (&model.filter);
    live_sleep_us (200);
  }
  if (ended == 0) {
    kill (client, SIGKILL);
    waitpid (client, &status, 0);
  }
  else if (!r && atomic_load (countdown) <= 0) {
    /* The last point is behind the reply. */
    REQUIRE (!server_await (&model.filter), "the filter ended");
    r = true;
  }
  atomic_store (countdown, 0);
  if (r) {
    if (t->image)
      faults_points_check_mark (t);
    restart ();
    live_wait_slots (map (), 0);
  }
  else
    REQUIRE (WIFEXITED (status) && WEXITSTATUS (status) == 0,
             "it was not done");
  return r;
}

static bool
try_request (struct trial *t, int n, bool answered)
{
  return answered ? try_answered (t, n) : try_lost (t, n);
}

static bool
try_stop (int n)
{
  bool r;

  nbd_close (model.guest);
  model.guest = NULL;
  atomic_store (countdown, n);
  kill (model.filter.pid, SIGTERM);
  r = !server_await (&model.filter);
  atomic_store (countdown, 0);
  restart ();
  return r;
}

/* Kill the start of a filter that has something to clear away. */
static bool
try_start (int n)
{
  struct trial create = { .what = CREATE }, drop = { .what = DROP };
  bool r;

  trial_get_ready (&create);
  CHECK (try_request (&create, 8, false));
  live_wait_slots (map (), 0);  /* the next server may be at it still */
  trial_check_create (&create, false);
  trial_get_ready (&drop);
  CHECK (try_request (&drop, 2, false));
  live_wait_slots (map (), 0);
  trial_check_drop (&drop, false);

  server_stop (&model.filter, SIGKILL);
  atomic_store (countdown, n);
  server_launch (&model.filter);
  r = !server_ready (&model.filter);
  atomic_store (countdown, 0);
  if (!r)                       /* it may have died since it was ready */
    r = !server_ready (&model.filter);
  if (r)
    server_start (&model.filter);
  guest_connect ();
  return r;
}

static int every = 1;           /* which points are tried: the argument */
static int phase;

static void
trials (const char *name, enum what what, unsigned which, bool patient)
{
  bool more = true;
  int n, killed = 0;

  /* Each kind of trial begins with another point. */
  for (n = 1 + phase++ % every; more; n += every) {
    struct trial t = { .what = what, .which = which };

    snprintf (live_context, sizeof live_context, "%s, %s, point %d", name,
              patient ? "answered" : "lost", n);
    trial_prepare ();
    trial_get_ready (&t);
    more = what == STOP ? try_stop (n) : what == START ? try_start (n) :
      try_request (&t, n, patient);
    trial_check (&t, patient || !more);
    drop_all (&trial_seed);
    points_drop_all (&trial_seed);
    killed += more;
  }
  nr_kills += killed;
  fflush (stdout);
  printf ("%s, %s: %d points\n", name, patient ? "answered" : "lost", killed);
  REQUIRE (killed > 0 || every > 1, "it was never killed");
}

int
main (int argc, char **argv)
{
  char path[256];
  int fd;

  (void) argc;
  snprintf (path, sizeof path, "%s/fault", live_arg (argv, "dir", NULL));
  fd = open (path, O_RDWR | O_CREAT, 0600);
  CHECK (fd >= 0 && ftruncate (fd, 2 * sizeof (int)) == 0);
  countdown = mmap (NULL, 2 * sizeof (int), PROT_READ | PROT_WRITE, MAP_SHARED,
                    fd, 0);
  CHECK (countdown != MAP_FAILED);

  every = (int) live_number (argv, "every", 1);
  CHECK (every > 0);
  model_start (argv);
  increments_start ();
  trials ("create", CREATE, 0, true);
  trials ("create", CREATE, 0, false);
  trials ("create over a file", CREATE_FORCED, 0, true);
  trials ("create over a file", CREATE_FORCED, 0, false);
  trials ("drop the oldest", DROP, OLDEST, true);
  trials ("drop the oldest", DROP, OLDEST, false);
  trials ("drop the middle", DROP, MIDDLE, true);
  trials ("drop the middle", DROP, MIDDLE, false);
  trials ("drop the newest", DROP, NEWEST, true);
  trials ("drop the newest", DROP, NEWEST, false);
  trials ("drop a hidden one too", DROP_TWO, OLDEST, true);
  trials ("drop a hidden one too", DROP_TWO, OLDEST, false);
  trials ("write", CHANGE, 0, true);
  trials ("backup", BACKUP, 0, true);
  trials ("backup without others", BACKUP_ALONE, 0, true);
  trials ("backup over a file", BACKUP_FORCED, 0, true);
  trials ("the rest of a backup", BACKUP_REST, 0, true);
  trials ("cancel a backup", CANCEL, 0, true);
  trials ("cancel a backup", CANCEL, 0, false);
  trials ("stop", STOP, 0, true);
  trials ("start", START, 0, true);
  if (increments.list[0].marked) {
    trials ("increment", INCREMENT, 0, true);
    trials ("the rest of an increment", INCREMENT_REST, 0, true);
    trials ("cancel an increment", CANCEL_INCREMENT, 0, true);
    trials ("cancel an increment", CANCEL_INCREMENT, 0, false);
  }
  trials ("checkpoint", CHECKPOINT, 0, false);
  trials ("drop the newest, keep its point", KEEP, NEWEST, true);
  /* What is done with points is done in memory. */
  atomic_store (countdown + 1, 1);
  trials ("checkpoint, with locks", CHECKPOINT, 0, true);
  trials ("drop the middle checkpoint, with locks", FORGET, MIDDLE, true);
  trials ("drop the newest checkpoint, with locks", FORGET, NEWEST, true);
  trials ("drop the newest checkpoint, with locks", FORGET, NEWEST, false);
  trials ("drop the newest, keep its point, with locks", KEEP, NEWEST, false);
  printf ("killed %u times\n", nr_kills);
  model_end ();
  return 0;
}
