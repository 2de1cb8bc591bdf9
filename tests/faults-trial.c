/* SPDX-License-Identifier: BSD-3-Clause */

/* What the faults test asks for while the filter is killed. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>

#include "backup-oracle.h"
#include "faults-points.h"
#include "faults-trial.h"
#include "image-oracle.h"
#include "request/control.h"
#include "unit.h"

#define CS 4096

uint64_t trial_seed = 1;

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
    c.data[i] = (unsigned char) (unit_random (&trial_seed) | 1);
  return c;
}

void
trial_write (unsigned from, unsigned to)
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
        .name = s->name, .target = s->target }, &held_ns, &e) == 0,
    "%s", e.msg);
  snap_add (s, model.disk);
}

static void
drop (unsigned i)
{
  struct error e;

  REQUIRE (control_drop (&model.patient, model.snaps[i].name, 0, 0, &e) == 0,
           "%s", e.msg);
  snap_remove (&model.snaps[i]);
}

void
trial_prepare (void)
{
  create ();
  trial_write (0, 2);
  create ();
  trial_write (1, 4);
  create ();
  trial_write (3, 6);
}

/* ---- What is tried ---- */

static void
check_image (const struct backup *b)
{
  char why[256];

  REQUIRE (image_same (b->image, b->data, model.size, why, sizeof why),
           "the image: %s", why);
}

void
trial_check_replaced (const struct backup *b)
{
  char why[256];

  REQUIRE (backup_image_is_old (b) ||
           image_same (b->image, model.disk, model.size, why, sizeof why),
           "the image: %s", why);
}

/* To its end, through any number of servers; the image is compared when it is
 * said to be complete, not later.
 */
void
trial_back_up (struct trial *t)
{
  struct backup *b = t->backup;
  enum backup_stand stand;

  if (t->what == BACKUP_REST || t->what == INCREMENT_REST) {
    t->result = control_job (t->client, b->id, CBW_JOB_SPEED, 0, &t->error);
    /* The next server does it again, perhaps when all is done. */
    if (t->result == -1 && t->error.num == EALREADY)
      t->result = 0;
  }
  else {
    t->result = t->image ?
      increment_begin (t->image, t->client, 0, &t->error) :
      backup_begin (b, t->client, 0, &t->error);
    if (t->result == 0 && t->image)
      increment_add (t->image, model.disk);
    else if (t->result == 0)
      backup_add (b, model.disk);
  }
  if (t->result == -1)
    return;
  while ((stand = backup_look (map (), b->index, b->id)) == BACKUP_RUNS)
    live_sleep_us (200);
  REQUIRE (stand == BACKUP_COMPLETE, "the backup has failed");
  check_image (b);
  t->result = control_drop_id (t->client, b->id, t->image ?
                               CBW_DROP_KEEP_POINT : 0, 0, &t->error);
}

void *
trial_run (void *opaque)
{
  struct trial *t = opaque;
  uint64_t held_ns;

  switch (t->what) {
  case CREATE: case CREATE_FORCED:
    t->result = control_create (t->client, &(struct control_snapshot) {
        .name = t->snap->name, .target = t->snap->target,
        .flags = t->what == CREATE ? 0 : CBW_CREATE_FORCE }, &held_ns,
      &t->error);
    break;
  case DROP: case DROP_TWO:
    t->result = control_drop (t->client, t->snap->name, 0, 0, &t->error);
    break;
  case BACKUP: case BACKUP_ALONE: case BACKUP_FORCED: case BACKUP_REST:
    trial_back_up (t);
    break;
  case CANCEL:
    t->result = control_drop_id (t->client, t->backup->id, 0, 0, &t->error);
    break;
  case CHANGE:
    t->change.acknowledged =
      nbd_pwrite (model.guest, t->change.data, t->change.count,
                  t->change.offset, 0) == 0;
    break;
  default:
    faults_points_run (t);
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
  trial_write (2, 9);
}

void
trial_get_ready (struct trial *t)
{
  switch (t->what) {
  case BACKUP_ALONE: case BACKUP_FORCED:
    drop_all (&trial_seed);
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
    faults_points_get_ready (t);
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

void
trial_check_create (struct trial *t, bool certain)
{
  const bool there = is_listed (t->snap->name);

  REQUIRE (there || !certain, "%s: it was made, and is not there",
           t->snap->name);
  if (there)
    snap_add (t->snap, model.disk);
  else if (t->what == CREATE_FORCED)
    unlink (t->snap->target);   /* removed, or not yet */
}

void
trial_check_drop (struct trial *t, bool certain)
{
  const bool there = is_listed (t->snap->name);

  REQUIRE (!there || !certain, "%s: it was dropped, and is there",
           t->snap->name);
  if (there)
    return;
  check_dropped (t->snap);
  if (certain)
    REQUIRE (!point_is_there (t->snap->name), "%s was dropped, and its point "
             "is there", t->snap->name);
  else
    point_follows (t->snap->name);
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
  image_scribble (b->image, model.size, trial_seed);
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
  trial_back_up (&rest);
  REQUIRE (rest.result == 0, "%s", rest.error.msg);
  check_backup (b);
}

void
trial_check (struct trial *t, bool certain)
{
  live_wait_slots (map (), 0);
  switch (t->what) {
  case CREATE: case CREATE_FORCED: trial_check_create (t, certain); break;
  case BACKUP: case BACKUP_ALONE: case BACKUP_FORCED: case BACKUP_REST:
    check_backup (t->backup);
    break;
  case CANCEL: check_cancel (t->backup, certain); break;
  case DROP: case DROP_TWO: trial_check_drop (t, certain); break;
  case CHANGE: apply (&t->change); break;
  default: faults_points_check (t, certain);
  }
  live_check_targets (map (), model.dir);
  compare_all ();
  faults_points_compare ();
  trial_write (0, 8);
  compare_all ();
  faults_points_compare ();
}
