/* SPDX-License-Identifier: BSD-3-Clause */

/* The steps of the model test that ask for one thing and wait for it. */

#include <config.h>

#include <errno.h>

#include "increment-oracle.h"
#include "model-steps.h"
#include "points-oracle.h"
#include "request/control.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define NR_OWNERS 4

struct steps steps;

/* Owned ones whose owner has gone: by when they must be gone too. */
static struct { char name[CBW_NAME_MAX]; uint64_t deadline; } dying[NR_OWNERS];

uint64_t
below (uint64_t max)
{
  return unit_random (&steps.seed) % max;
}

struct change
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

void
step_change (void)
{
  struct change c = random_change (0, model.size);
  int r;

  if (c.op == WRITE && below (4) == 0) /* one that changes nothing */
    memcpy (c.data, model.disk + c.offset, c.count);

  switch (c.op) {
  case WRITE:
    r = nbd_pwrite (model.guest, c.data, c.count, c.offset, 0);
    break;
  case ZERO:
    r = nbd_zero (model.guest, c.count, c.offset, 0);
    break;
  default:
    r = nbd_trim (model.guest, c.count, c.offset, 0);
  }
  REQUIRE (r == 0, "changing the disk: %s", nbd_get_error ());
  c.acknowledged = true;
  apply (&c);
  steps.changes++;
}

void
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

void
check_full (const char *name, const struct error *e)
{
  const bool full = live_entries (map ()) == CBW_NR_SNAPSHOTS ||
    now_monotonic_ns () < steps.last_end + NS_PER_SEC;

  REQUIRE (e->num == ENOSPC && full, "creating %s: %s", name, e->msg);
  steps.full++;
}

void
check_refused (const char *name, bool again, const char *target,
               const struct error *e)
{
  check_full (name, e);
  REQUIRE ((again || !is_listed (name)) && access (target, F_OK) == -1,
           "%s was refused, and is there", name);
}

void
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

void
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
    steps.owned++;
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

bool
is_dying (const char *name)
{
  unsigned i;

  for (i = 0; i < NR_OWNERS; ++i)
    if (dying[i].deadline > 0 && strcmp (dying[i].name, name) == 0)
      return true;
  return false;
}

void
check_dying (bool filter_was_away)
{
  const uint64_t now = now_monotonic_ns ();
  unsigned i;

  for (i = 0; i < NR_OWNERS; ++i) {
    if (dying[i].deadline == 0)
      continue;
    steps.last_end = now;
    /* Nobody asks again for what the server has left half done. */
    if (filter_was_away && !is_listed (dying[i].name))
      point_follows (dying[i].name);
    if (!is_listed (dying[i].name) && !point_is_there (dying[i].name))
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

void
step_drop (void)
{
  const bool keep = below (3) == 0 && points.nr < NR_CHECKPOINTS;
  struct snap *s;
  struct error e;

  if (model.nr_snaps == 0)
    return;
  s = below (3) ? &model.snaps[below (model.nr_snaps)] : oldest ();
  if (s->owner && below (2) && step_owner_ends (s))
    return;
  REQUIRE (control_drop (&model.patient, s->name,
                         keep ? CBW_DROP_KEEP_POINT : 0, 0, &e) == 0,
           "dropping %s: %s", s->name, e.msg);
  check_dropped (s);
  if (keep)
    checkpoint_keep (s);
  else
    REQUIRE (!point_is_there (s->name), "%s was dropped, and its point is "
             "there", s->name);
  if (s->owner)
    owner_end (s);
  snap_remove (s);
  steps.last_end = now_monotonic_ns (); /* of hidden ones, too */
}

/* All that is drawn is drawn first: how far backups are is no part of the
 * seed.
 */
void
step_backup (void)
{
  static const uint64_t speeds[] = { 0, 1, 100000, 1000000 };
  struct backup *b = &backups.list[below (NR_BACKUPS)];
  const uint64_t dice = unit_random (&steps.seed), speed = speeds[below (4)];
  const bool again = dice % 3 == 0;
  struct error e;

  if (b->running) {
    backup_control (b, dice);
    steps.last_end = now_monotonic_ns ();
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

/* What is drawn is drawn first, here too. */
void
step_increment (void)
{
  static const uint64_t speeds[] = { 0, 1, 100000, 1000000 };
  struct image_model *im = &increments.list[below (NR_IMAGES)];
  const uint64_t dice = unit_random (&steps.seed), speed = speeds[below (4)];
  struct error e;

  if (!image_is_used (im))
    return;
  if (dice / 8 % 12 == 0)
    increment_drop_base (im);
  if (im->b.running) {
    backup_control (&im->b, dice);
    steps.last_end = now_monotonic_ns ();
    return;
  }
  increment_plan (im, dice);
  if (increment_begin (im, &model.patient, speed, &e) == 0)
    increment_add (im, model.disk);
  else {
    if (!increment_refused (im, &e))
      check_full (im->b.name, &e);
    increments_check_marks (NULL);
  }
}

void
step_checkpoint (void)
{
  const uint64_t dice = unit_random (&steps.seed);
  struct checkpoint *c;
  uint64_t held_ns;
  struct error e;

  if (points.nr == NR_CHECKPOINTS || (points.nr > 0 && dice % 5 < 2)) {
    c = &points.list[dice / 5 % points.nr];
    REQUIRE (control_drop (&model.patient, c->name, 0, 0, &e) == 0,
             "dropping %s: %s", c->name, e.msg);
    checkpoint_remove (c);
    return;
  }
  c = checkpoint_new ();
  REQUIRE (control_checkpoint (&model.patient, c->name, 0, &held_ns, &e) == 0,
           "%s", e.msg);
  checkpoint_add (c, model.disk);
}

/* A moment from which a delta may begin, and the name of its point. */
static const struct moment *
random_moment (const char **name)
{
  const struct image_model *im = &increments.list[below (NR_IMAGES)];
  const uint64_t kind = below (5), dice = unit_random (&steps.seed);
  struct point p;

  if (kind < 2 && points.nr > 0) {
    *name = points.list[dice % points.nr].name;
    return &points.list[dice % points.nr].at;
  }
  if (kind == 2 && moment_point (&im->base, &p) &&
      point_find (map (), im->base_name, &p) && p.id == im->base.id) {
    *name = im->base_name;
    return &im->base;
  }
  if (model.nr_snaps == 0)
    return NULL;
  *name = model.snaps[dice % model.nr_snaps].name;
  return &model.snaps[dice % model.nr_snaps].at;
}

void
step_delta (void)
{
  const char *name;
  const struct moment *a = random_moment (&name);

  if (a == NULL)
    return;
  if (model.nr_snaps == 0 || below (3) == 0)
    delta_compare_now (a);
  else
    delta_compare (a, name, &model.snaps[below (model.nr_snaps)]);
}
