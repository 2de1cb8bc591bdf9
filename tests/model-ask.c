/* SPDX-License-Identifier: BSD-3-Clause */

/* What is asked for among the changes of a burst: see model-ask.h. */

#include <config.h>

#include <errno.h>

#include "model-ask.h"
#include "model-steps.h"
#include "request/control.h"
#include "unit.h"
#include "utils/clock.h"

/* ---- Asking ---- */

void *
ask_run (void *opaque)
{
  struct ask *a = opaque;
  uint64_t held_ns;

  switch (a->kind) {
  case ASK_CREATE:
    a->result = control_create (a->client, &(struct control_snapshot) {
        .name = a->snap->name, .target = a->snap->target }, &held_ns,
      &a->error);
    break;
  case ASK_DROP: case ASK_KEEP:
    a->result = control_drop (a->client, a->snap->name,
                              a->kind == ASK_KEEP ? CBW_DROP_KEEP_POINT : 0,
                              0, &a->error);
    break;
  case ASK_BACKUP:              /* slowly, so that it can be read */
    a->result = backup_begin (a->backup, a->client, 1, &a->error);
    break;
  case ASK_INCREMENT:
    a->result = increment_begin (a->image, a->client, 1, &a->error);
    break;
  case ASK_CHECKPOINT:
    a->result = control_checkpoint (a->client, a->checkpoint->name, 0,
                                    &held_ns, &a->error);
    break;
  case ASK_FORGET:
    a->result = control_drop (a->client, a->checkpoint->name, 0, 0,
                              &a->error);
    break;
  default:
    a->result = control_drop_id (a->client, a->backup->id, 0, 0, &a->error);
  }
  return NULL;
}

static bool
is_possible (const struct ask *a, const struct backup *backup,
             const struct image_model *im)
{
  switch (a->kind) {
  case ASK_DROP: return model.nr_snaps > 0;
  case ASK_KEEP: return model.nr_snaps > 0 && points.nr < NR_CHECKPOINTS;
  case ASK_BACKUP: return !backup->running && !backup->left;
  case ASK_CANCEL: return backup->running;
  case ASK_CHECKPOINT: return points.nr < NR_CHECKPOINTS;
  case ASK_FORGET: return points.nr > 0;
  case ASK_INCREMENT: return image_is_used (im) && !im->b.running;
  case ASK_CANCEL_INCREMENT: return im->b.running;
  default: return true;
  }
}

void
ask_choose (struct ask *a, bool end_filter)
{
  struct backup *backup = &backups.list[below (NR_BACKUPS)];
  struct image_model *im = &increments.list[below (NR_IMAGES)];
  const uint64_t dice = unit_random (&steps.seed);
  const bool patient = !end_filter || below (5) > 0;

  *a = (struct ask) { .kind = below (ASK_KINDS) };
  a->client = patient ? &model.patient : &model.impatient;
  if (!is_possible (a, backup, im))
    a->kind = ASK_NOTHING;
  switch (a->kind) {
  case ASK_CREATE: a->snap = snap_new (); break;
  case ASK_DROP: case ASK_KEEP:
    a->snap = &model.snaps[dice % model.nr_snaps];
    break;
  case ASK_BACKUP:
    a->again = dice % 3 == 0;
    backup_new (backup, a->again, dice % 5 == 0, dice);
    break;
  case ASK_CHECKPOINT: a->checkpoint = checkpoint_new (); break;
  case ASK_FORGET: a->checkpoint = &points.list[dice % points.nr]; break;
  case ASK_INCREMENT: increment_plan (im, dice); break;
  default: break;
  }
  if (a->kind == ASK_INCREMENT || a->kind == ASK_CANCEL_INCREMENT)
    a->image = im;
  a->backup = a->image ? &im->b : backup;
}

/* ---- What came of it ---- */

/* What model.buf has of the view of "name" was made among the changes: each
 * byte is from before or from after, and stays so.
 */
static void
check_cut (const struct change *changes, const char *name,
           const unsigned char *before)
{
  const struct change *c;
  uint64_t i;
  unsigned n;

  for (i = n = 0; i < model.size; ++i) {
    for (; n < NR_REGIONS && i >= changes[n].offset + changes[n].count; ++n)
      ;
    c = n < NR_REGIONS && i >= changes[n].offset ? &changes[n] : NULL;
    REQUIRE (model.buf[i] == before[i] ||
             (c && model.buf[i] == c->data[i - c->offset]),
             "%s: byte %" PRIu64 " is %02x, which the disk never held there",
             name, i, model.buf[i]);
  }
}

static void
resolve_create (struct ask *a, const unsigned char *before,
                const struct change *changes)
{
  snap_read (a->snap, model.size, 0);
  check_cut (changes, a->snap->name, before);
  snap_add (a->snap, model.buf);
  a->moment = &a->snap->at;
}

static void
resolve_drop (struct ask *a, bool there)
{
  if (there) {
    compare (a->snap, model.size, 0);
    return;
  }
  check_dropped (a->snap);
  if (a->kind == ASK_KEEP)
    checkpoint_keep (a->snap);
  else
    point_follows (a->snap->name);
  if (a->snap->owner)
    owner_end (a->snap);
  snap_remove (a->snap);
}

static void
resolve_backup (struct ask *a, const unsigned char *before,
                const struct change *changes)
{
  if (a->image)
    increment_add (a->image, before);
  else
    backup_add (a->backup, before);
  backup_read (a->backup);
  check_cut (changes, a->backup->name, before);
  memcpy (a->backup->data, model.buf, model.size);
  if (a->image)
    a->moment = &a->image->next;
}

static void
resolve (struct ask *a, bool there, const unsigned char *before,
         const struct change *changes)
{
  switch (a->kind) {
  case ASK_CREATE:
    if (there)
      resolve_create (a, before, changes);
    break;
  case ASK_DROP: case ASK_KEEP:
    resolve_drop (a, there);
    break;
  case ASK_BACKUP: case ASK_INCREMENT:
    if (there)
      resolve_backup (a, before, changes);
    break;
  case ASK_CHECKPOINT:
    if (there) {
      checkpoint_add (a->checkpoint, before);
      a->moment = &a->checkpoint->at;
    }
    break;
  case ASK_FORGET:
    if (!there)
      checkpoint_remove (a->checkpoint);
    break;
  default:
    if (!there)
      backup_cancelled (a->backup);
  }
}

static bool
is_there (const struct ask *a)
{
  switch (a->kind) {
  case ASK_CREATE: case ASK_DROP: case ASK_KEEP:
    return is_listed (a->snap->name);
  case ASK_CHECKPOINT: case ASK_FORGET:
    return point_is_there (a->checkpoint->name);
  case ASK_INCREMENT:
    return increment_is_listed (a->image);
  default:
    return backup_is_listed (a->backup);
  }
}

/* It was refused: that must have a reason. */
static void
check_reason (const struct ask *a)
{
  if (a->kind == ASK_INCREMENT && increment_refused (a->image, &a->error))
    return;
  if (a->kind == ASK_INCREMENT)
    check_full (a->backup->name, &a->error);
  else if (a->kind == ASK_CREATE)
    check_refused (a->snap->name, false, a->snap->target, &a->error);
  else if (a->kind == ASK_BACKUP)
    check_refused (a->backup->name, a->again, a->backup->image, &a->error);
  else
    live_fail ("it was refused: %s", a->error.msg);
}

static bool
makes (const struct ask *a)
{
  return a->kind == ASK_CREATE || a->kind == ASK_BACKUP ||
    a->kind == ASK_CHECKPOINT || a->kind == ASK_INCREMENT;
}

void
ask_resolve (struct ask *a, const unsigned char *before,
             const struct change changes[NR_REGIONS])
{
  bool there;

  /* The request may still be under way, unowned. */
  live_wait_slots (map (), 0);
  there = is_there (a);
  if (a->kind == ASK_BACKUP && !there)
    backup_refused (a->backup);
  if (a->result == -1 && a->error.num == ESHUTDOWN)
    steps.lost++;
  else if (a->result == -1)
    check_reason (a);
  else
    REQUIRE (there == makes (a), "it was said to be done, and is not");
  steps.last_end = now_monotonic_ns ();
  resolve (a, there, before, changes);
}

/* Of a checkpoint nobody can see what the disk was. */
void
ask_passed (struct ask *a)
{
  if (a->moment)
    moment_passed (a->moment, a->kind == ASK_CHECKPOINT);
  if (a->kind == ASK_BACKUP || a->kind == ASK_INCREMENT)
    if (a->backup->running)
      backup_control (a->backup, a->backup->dice);
}
