/* SPDX-License-Identifier: BSD-3-Clause */

/* Points and increments in the faults test: see faults-points.h. */

#include <config.h>

#include "faults-points.h"
#include "image/image.h"
#include "request/control.h"
#include "unit.h"

/* For increment_plan: the server chooses, or the right point is named; and the
 * result is fetched.
 */
#define AUTO 3
#define NAMED 7

/* ---- What is tried ---- */

static void
make_checkpoint (void)
{
  struct checkpoint *c = checkpoint_new ();
  uint64_t held_ns;
  struct error e;

  REQUIRE (control_checkpoint (&model.patient, c->name, 0, &held_ns, &e) == 0,
           "%s", e.msg);
  checkpoint_add (c, model.disk);
}

/* Of three, with changes after each. */
static struct checkpoint *
make_checkpoints (unsigned which)
{
  make_checkpoint ();
  trial_write (5, 7);
  make_checkpoint ();
  trial_write (6, 10);
  make_checkpoint ();
  trial_write (9, 12);
  return &points.list[which];
}

static void
begin (struct image_model *im, uint64_t dice, uint64_t speed)
{
  struct error e;

  increment_plan (im, dice);
  REQUIRE (increment_begin (im, &model.patient, speed, &e) == 0, "%s", e.msg);
  increment_add (im, model.disk);
}

/* An image that is whole, and is to be brought up to date; or is on its way,
 * where the guest has overwritten some clusters since.
 */
static void
prepare_image (struct trial *t)
{
  struct image_model *im = &increments.list[1];

  t->image = im;
  t->backup = &im->b;
  begin (im, AUTO, 0);          /* a full one */
  backup_await (&im->b);
  trial_write (4, 12);
  t->expected = model.disk;
  if (t->what == INCREMENT)
    increment_plan (im, NAMED);
  else {
    begin (im, NAMED, 1);
    t->expected = im->next.data;
    trial_write (2, 9);
  }
}

void
faults_points_get_ready (struct trial *t)
{
  switch (t->what) {
  case CHECKPOINT: t->checkpoint = checkpoint_new (); break;
  case FORGET: t->checkpoint = make_checkpoints (t->which); break;
  case KEEP: t->snap = &model.snaps[t->which]; break;
  case INCREMENT: case INCREMENT_REST: case CANCEL_INCREMENT:
    prepare_image (t);
    break;
  default:
    break;
  }
}

void
faults_points_run (struct trial *t)
{
  uint64_t held_ns;

  switch (t->what) {
  case CHECKPOINT:
    t->result = control_checkpoint (t->client, t->checkpoint->name, 0,
                                    &held_ns, &t->error);
    break;
  case FORGET:
    t->result = control_drop_id (t->client, t->checkpoint->at.id, 0, 0,
                                 &t->error);
    break;
  case KEEP:
    t->result = control_drop (t->client, t->snap->name, CBW_DROP_KEEP_POINT, 0,
                              &t->error);
    break;
  case INCREMENT: case INCREMENT_REST:
    trial_back_up (t);
    break;
  case CANCEL_INCREMENT:
    t->result = control_drop_id (t->client, t->backup->id, 0, 0, &t->error);
    break;
  default:
    break;
  }
}

/* ---- What came of it ---- */

void
faults_points_check_mark (const struct trial *t)
{
  const struct image_model *im = t->image;
  const unsigned char *data;
  struct image_mark mark;
  struct error e;
  char why[256];
  bool is_base;

  REQUIRE (image_raw_read_mark (im->b.image, &mark, &e) == 0, "%s", e.msg);
  is_base = memcmp (mark.uuid, im->base_uuid, 16) == 0;
  REQUIRE (mark.kind == IMAGE_MARK_WHOLE ||
           (mark.kind == IMAGE_MARK_ON_ITS_WAY && is_base),
           "the image has lost its mark");
  data = is_base ? im->base.data : t->expected;
  REQUIRE (mark.kind == IMAGE_MARK_ON_ITS_WAY ||
           image_same (im->b.image, data, model.size, why, sizeof why),
           "the image says that it is %s one: %s", is_base ? "the old" :
           "the new", why);
}

static void
check_checkpoint (struct trial *t, bool certain)
{
  const bool there = point_is_there (t->checkpoint->name);

  REQUIRE (!certain || there == (t->what == CHECKPOINT),
           "%s: it was %s, and that is not so", t->checkpoint->name,
           t->what == CHECKPOINT ? "made" : "dropped");
  if (t->what == CHECKPOINT && there)
    checkpoint_add (t->checkpoint, model.disk);
  else if (t->what == FORGET && !there)
    checkpoint_remove (t->checkpoint);
}

static void
check_kept (struct trial *t, bool certain)
{
  const bool there = is_listed (t->snap->name);

  REQUIRE (!there || !certain, "%s: it was dropped, and is there",
           t->snap->name);
  if (there)
    return;
  check_dropped (t->snap);
  checkpoint_keep (t->snap);
  snap_remove (t->snap);
}

static void
check_cancelled (struct trial *t, bool certain)
{
  struct trial rest = {
    .what = INCREMENT_REST, .backup = t->backup, .image = t->image,
    .client = &model.patient,
  };

  if (!backup_is_listed (t->backup)) {
    backup_cancelled (t->backup);
    return;
  }
  REQUIRE (!certain, "%s: it was cancelled, and is there", t->backup->name);
  trial_back_up (&rest);
  REQUIRE (rest.result == 0, "%s", rest.error.msg);
}

void
faults_points_check (struct trial *t, bool certain)
{
  switch (t->what) {
  case CHECKPOINT: case FORGET: check_checkpoint (t, certain); break;
  case KEEP: check_kept (t, certain); break;
  case CANCEL_INCREMENT: check_cancelled (t, certain); break;
  default: break;
  }
  if (t->image && t->image->b.running)
    increments_check ();
  REQUIRE (t->image == NULL || !t->image->b.running, "the increment runs");
  increments_check_marks (NULL);
}

static void
compare_from (const struct moment *a, const char *name)
{
  unsigned i;

  delta_compare_now (a);
  for (i = 0; i < model.nr_snaps; ++i)
    if (model.snaps[i].at.id >= a->id)
      delta_compare (a, name, &model.snaps[i]);
}

static bool
is_left (const char *name)
{
  (void) name;
  return false;
}

void
faults_points_compare (void)
{
  unsigned i;

  points_check (is_left);
  for (i = 0; i < points.nr; ++i)
    compare_from (&points.list[i].at, points.list[i].name);
  for (i = 0; i < model.nr_snaps; ++i)
    compare_from (&model.snaps[i].at, model.snaps[i].name);
}
