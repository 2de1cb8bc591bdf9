/* SPDX-License-Identifier: BSD-3-Clause */

/* The filter is killed at every call that it makes of the C library
 * (kill-preload.c) while it makes or drops a snapshot, copies, makes or
 * cancels a backup, ends or starts, and is started again.  What was asked for
 * is then done if the client is still there; if not, it is done or it is not,
 * and never half.
 *
 *   faults-driver dir=DIR size=BYTES
 *
 * DIR/fault is the file that arms kill-preload.c.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "backup-oracle.h"
#include "image-oracle.h"
#include "model-oracle.h"
#include "request/control.h"
#include "unit.h"

#define CS 4096

static uint64_t seed = 1;
static _Atomic (int) *countdown;
static unsigned nr_kills;

/* ---- A disk with three snapshots ---- */

/* Clusters [from, to) get other bytes. */
static struct change
change (unsigned from, unsigned to)
{
  struct change c = {
    .op = WRITE, .offset = from * CS, .count = (to - from) * CS
  };
  uint64_t i;

  c.data = malloc (c.count);
  CHECK (c.data != NULL);
  for (i = 0; i < c.count; ++i)
    c.data[i] = (unsigned char) (unit_random (&seed) | 1);
  return c;
}

static void
write_disk (unsigned from, unsigned to)
{
  struct change c = change (from, to);

  REQUIRE (nbd_pwrite (model.guest, c.data, c.count, c.offset, 0) == 0, "%s",
           nbd_get_error ());
  c.acknowledged = true;
  apply (&c);
}

static void
create (void)
{
  struct snap *s = snap_new ();
  uint64_t held_ns;
  struct error e;

  REQUIRE (control_create (&model.patient, &(struct control_snapshot) {
        .name = s->name, .target = s->target }, &held_ns, &e) == 0, "%s", e.msg);
  snap_add (s, model.disk);
}

static void
drop (unsigned i)
{
  struct error e;

  REQUIRE (control_drop (&model.patient, model.snaps[i].name, 0, &e) == 0, "%s",
           e.msg);
  snap_remove (&model.snaps[i]);
}

enum { OLDEST, MIDDLE, NEWEST };

/* The middle one holds cluster 1, which nobody else needs, and 2 and 3,
 * which the oldest does.
 */
static void
prepare (void)
{
  create ();
  write_disk (0, 2);
  create ();
  write_disk (1, 4);
  create ();
  write_disk (3, 6);
}

/* ---- What is tried ---- */

enum what {
  CREATE, CREATE_FORCED, DROP, DROP_TWO, CHANGE,
  BACKUP, BACKUP_ALONE,         /* from its beginning to its end */
  BACKUP_FORCED,                /* over a file */
  BACKUP_REST,                  /* begun before, then the guest wrote */
  CANCEL,                       /* the same */
  STOP, START
};

struct trial {
  enum what what;
  unsigned which;               /* snapshot to be dropped */
  struct snap *snap;
  struct backup *backup;
  struct change change;
  struct client *client;
  int result;
  struct error error;
  _Atomic (bool) finished;
};

static void
check_image (const struct backup *b)
{
  char why[256];

  REQUIRE (image_same (b->image, b->data, model.size, why, sizeof why),
           "the image: %s", why);
}

/* The old file, or the new image, and nothing else. */
static void
check_replaced (const struct backup *b)
{
  char why[256];

  REQUIRE (backup_image_is_old (b) ||
           image_same (b->image, model.disk, model.size, why, sizeof why),
           "the image: %s", why);
}

/* To its end, through any number of servers; the image is compared when it is
 * said to be complete, not later.
 */
static void
back_up (struct trial *t)
{
  struct backup *b = t->backup;
  enum backup_stand stand;

  if (t->what == BACKUP_REST) {
    t->result = control_job (t->client, b->id, CBW_JOB_SPEED, 0, &t->error);
    /* The next server does it again, perhaps when all is done. */
    if (t->result == -1 && t->error.num == EALREADY)
      t->result = 0;
  }
  else {
    t->result = backup_begin (b, t->client, 0, &t->error);
    if (t->result == 0)
      backup_add (b, model.disk);
  }
  if (t->result == -1)
    return;
  while ((stand = backup_look (map (), b->index, b->id)) == BACKUP_RUNS)
    live_sleep_us (200);
  REQUIRE (stand == BACKUP_COMPLETE, "the backup has failed");
  check_image (b);
  t->result = control_drop_id (t->client, b->id, 0, &t->error);
}

static void *
run (void *opaque)
{
  struct trial *t = opaque;
  uint64_t held_ns;

  switch (t->what) {
  case CREATE: case CREATE_FORCED:
    t->result = control_create (t->client, &(struct control_snapshot) {
        .name = t->snap->name, .target = t->snap->target,
        .flags = t->what == CREATE ? 0 : CBW_CREATE_FORCE }, &held_ns, &t->error);
    break;
  case DROP: case DROP_TWO:
    t->result = control_drop (t->client, t->snap->name, 0, &t->error);
    break;
  case BACKUP: case BACKUP_ALONE: case BACKUP_FORCED: case BACKUP_REST:
    back_up (t);
    break;
  case CANCEL:
    t->result = control_drop_id (t->client, t->backup->id, 0, &t->error);
    break;
  case CHANGE:
    t->change.acknowledged =
      nbd_pwrite (model.guest, t->change.data, t->change.count,
                  t->change.offset, 0) == 0;
    break;
  default:
    break;
  }
  atomic_store (&t->finished, true);
  return NULL;
}

static void
old_file (const char *path)
{
  const int fd = open (path, O_WRONLY | O_CREAT, 0600);

  CHECK (fd >= 0 && write (fd, "old", 3) == 3);
  close (fd);
}

/* It rests after its first cluster; some others are there since the guest has
 * overwritten them.
 */
static void
begin_slowly (struct backup *b)
{
  struct error e;

  REQUIRE (backup_begin (b, &model.patient, 1, &e) == 0, "%s", e.msg);
  backup_add (b, model.disk);
  write_disk (2, 9);
}

static void
get_ready (struct trial *t)
{
  switch (t->what) {
  case BACKUP_ALONE: case BACKUP_FORCED:
    drop_all (&seed);
    /* fallthrough */
  case BACKUP: case BACKUP_REST: case CANCEL:
    t->backup = &backups.list[0];
    backup_new (t->backup, false, t->what == BACKUP_FORCED, 0);
    if (t->what == BACKUP_REST || t->what == CANCEL)
      begin_slowly (t->backup);
    break;
  case CREATE_FORCED:
    t->snap = snap_new ();
    snprintf (t->snap->target, sizeof t->snap->target, "%s/forced", model.dir);
    old_file (t->snap->target);
    break;
  case CREATE:
    t->snap = snap_new ();
    break;
  case DROP_TWO:
    drop (MIDDLE);              /* the last takes its place */
    /* fallthrough */
  case DROP:
    t->snap = &model.snaps[t->which];
    snap_connect (t->snap);
    break;
  case CHANGE:
    t->change = change (2, 10);
    break;
  default:
    break;
  }
}

/* ---- What came of it ---- */

/* Of a dropped snapshot's target, wherever it is now. */
static bool
is_hole (const char *target, unsigned cluster)
{
  char path[PATH_MAX];
  glob_t found;
  off_t data;
  int fd;

  snprintf (path, sizeof path, "%s.dropped-*", target);
  if (glob (path, 0, NULL, &found) == 0)
    snprintf (path, sizeof path, "%s", found.gl_pathv[0]);
  else
    snprintf (path, sizeof path, "%s", target);
  globfree (&found);
  fd = open (path, O_RDONLY);
  REQUIRE (fd >= 0, "%s: %m", path);
  data = lseek (fd, cluster * CS, SEEK_DATA);
  close (fd);
  return data == -1 || data >= (off_t) (cluster + 1) * CS;
}

static void
check_create (struct trial *t, bool certain)
{
  const bool there = is_listed (t->snap->name);

  REQUIRE (there || !certain, "%s: it was made, and is not there",
           t->snap->name);
  if (there)
    snap_add (t->snap, model.disk);
  else if (t->what == CREATE_FORCED)
    unlink (t->snap->target);   /* removed, or not yet */
}

static void
check_drop (struct trial *t, bool certain)
{
  const bool there = is_listed (t->snap->name);

  REQUIRE (!there || !certain, "%s: it was dropped, and is there",
           t->snap->name);
  if (there)
    return;
  check_dropped (t->snap);
  if (t->what == DROP && t->which == MIDDLE) {
    REQUIRE (is_hole (t->snap->target, 1), "%s holds what nobody needs",
             t->snap->target);
    REQUIRE (!is_hole (t->snap->target, 2), "%s lacks what was needed",
             t->snap->target);
  }
  snap_remove (t->snap);
}

/* Nobody needs its image. */
static void
check_backup (struct backup *b)
{
  check_image (b);
  image_scribble (b->image, model.size, seed);
  compare_all ();
  unlink (b->image);
  free (b->data);
  b->running = false;
}

static void
check_cancel (struct backup *b, bool certain)
{
  struct trial rest = {
    .what = BACKUP_REST, .backup = b, .client = &model.patient
  };

  if (!backup_is_listed (b)) {
    backup_cancelled (b);
    return;
  }
  REQUIRE (!certain, "%s: it was cancelled, and is there", b->name);
  back_up (&rest);
  REQUIRE (rest.result == 0, "%s", rest.error.msg);
  check_backup (b);
}

static void
check (struct trial *t, bool certain)
{
  live_wait_slots (map (), 0);
  switch (t->what) {
  case CREATE: case CREATE_FORCED: check_create (t, certain); break;
  case BACKUP: case BACKUP_ALONE: case BACKUP_FORCED: case BACKUP_REST:
    check_backup (t->backup);
    break;
  case CANCEL: check_cancel (t->backup, certain); break;
  case DROP: case DROP_TWO: check_drop (t, certain); break;
  case CHANGE: apply (&t->change); break;
  default: break;
  }
  live_check_targets (map (), model.dir);
  compare_all ();
  write_disk (0, 8);
  compare_all ();
}

/* ---- Killing ---- */

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
  CHECK (pthread_create (&thread, NULL, run, t) == 0);
  r = killed (t);
  atomic_store (countdown, 0);
  if (r && t->what == BACKUP_FORCED)
    check_replaced (t->backup);
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
  run (t);
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

  get_ready (&create);
  CHECK (try_request (&create, 8, false));
  live_wait_slots (map (), 0);  /* the next server may be at it still */
  check_create (&create, false);
  get_ready (&drop);
  CHECK (try_request (&drop, 2, false));
  live_wait_slots (map (), 0);
  check_drop (&drop, false);

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

static void
trials (const char *name, enum what what, unsigned which, bool patient)
{
  bool more = true;
  int n;

  for (n = 1; more; ++n) {
    struct trial t = { .what = what, .which = which };

    snprintf (live_context, sizeof live_context, "%s, %s, point %d", name,
              patient ? "answered" : "lost", n);
    prepare ();
    get_ready (&t);
    more = what == STOP ? try_stop (n) : what == START ? try_start (n) :
      try_request (&t, n, patient);
    check (&t, patient || !more);
    drop_all (&seed);
    nr_kills += more;
  }
  fflush (stdout);
  printf ("%s, %s: %d points\n", name, patient ? "answered" : "lost", n - 2);
  REQUIRE (n > 2, "it was never killed");
}

int
main (int argc, char **argv)
{
  char path[256];
  int fd;

  (void) argc;
  snprintf (path, sizeof path, "%s/fault", live_arg (argv, "dir", NULL));
  fd = open (path, O_RDWR | O_CREAT, 0600);
  CHECK (fd >= 0 && ftruncate (fd, sizeof (int)) == 0);
  countdown = mmap (NULL, sizeof (int), PROT_READ | PROT_WRITE, MAP_SHARED,
                    fd, 0);
  CHECK (countdown != MAP_FAILED);

  model_start (argv);
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
  printf ("killed %u times\n", nr_kills);
  model_end ();
  return 0;
}
