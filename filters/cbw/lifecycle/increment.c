/* SPDX-License-Identifier: BSD-3-Clause */

/* Bringing images up to date: see increment.h.  Comparing is in
 * increment-compare.c.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/settle.h"
#include "lifecycle/increment-compare.h"
#include "lifecycle/increment.h"
#include "segment/entry.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"

static bool
is_auto (const struct create_params *p)
{
  return p->since == CBW_SINCE_AUTO;
}

static void
set_since (struct cbw_increment *i, const struct points_entry *point)
{
  i->since = point->id;
  memcpy (i->uuid, point->uuid, sizeof i->uuid);
  memcpy (i->name, point->name, sizeof i->name);
}

static void
set_full (struct cbw_increment *i, const char *reason)
{
  i->since = 0;
  snprintf (i->reason, sizeof i->reason, "%s", reason);
}

/* The point that the user has named. */
static int
choose_named (struct engine *engine, uint64_t id, struct points_entry *point,
              struct error *e)
{
  if (!points_find (&engine->points, id, point))
    return error_set (e, ENOENT, "there is no snapshot or checkpoint with id %"
                      PRIu64 " to count changes from", id);
  if (!point->valid)
    return error_set (e, ESTALE, "changes since \"%s\" are not known any more; "
                      "make a full backup", point->name);
  return 0;
}

/* Is the file the image of that point, as it says? */
static int
check_mark (const struct create_params *p, const struct image_mark *mark,
            const struct points_entry *point, struct error *e)
{
  if (mark->kind != IMAGE_MARK_NONE &&
      memcmp (mark->uuid, point->uuid, sizeof mark->uuid) == 0)
    return 0;
  return error_set (e, EINVAL, "%s: is not marked as the image of \"%s\"%s; "
                    "make a full backup, or if you are sure that it is, use "
                    "--force", p->target, point->name,
                    mark->kind == IMAGE_MARK_NONE ? ", or was changed since" :
                    ", but as another one's");
}

static int
choose_for_file (struct engine *engine, const struct create_params *p,
                 struct cbw_increment *i, struct error *e)
{
  struct points_entry point;
  struct image_mark mark;

  if (access (p->target, F_OK) == -1 && errno == ENOENT) {
    set_full (i, "there is no older image");
    return is_auto (p) ? 0 :
      error_set_errno (e, ENOENT, "%s: cannot be brought up to date (--since=auto "
                       "makes a full backup then)", p->target);
  }
  if (image_raw_read_mark (p->target, &mark, e) == -1)
    return -1;
  if (!is_auto (p)) {
    if (choose_named (engine, p->since, &point, e) == -1 ||
        (!(p->flags & CBW_CREATE_FORCE) &&
         check_mark (p, &mark, &point, e) == -1))
      return -1;
    set_since (i, &point);
  }
  else if (mark.kind == IMAGE_MARK_NONE)
    set_full (i, "the file is not marked as an image of this disk, or was "
              "changed since");
  else if (!points_find_image (&engine->points, mark.uuid, &point))
    set_full (i, "there is no snapshot or checkpoint any more that the file is "
              "the image of");
  else if (!point.valid)
    set_full (i, "changes since the file's image are not known any more");
  else
    set_since (i, &point);
  return 0;
}

/* Which image an export holds is seen when it is open, and compared. */
static int
choose_for_export (struct engine *engine, const struct create_params *p,
                   struct cbw_increment *i, struct error *e)
{
  struct points_entry point;

  if (is_auto (p))
    return 0;
  if (choose_named (engine, p->since, &point, e) == -1)
    return -1;
  set_since (i, &point);
  return 0;
}

int
increment_choose (struct engine *engine, const struct create_params *p,
                  struct cbw_snapshot *fixed, struct error *e)
{
  if (!(p->flags & CBW_CREATE_SINCE))
    return 0;
  if (is_auto (p))
    fixed->increment.flags = CBW_INCREMENT_CHOSEN;
  if ((fixed->target_kind == CBW_TARGET_NBD ?
       choose_for_export (engine, p, &fixed->increment, e) :
       choose_for_file (engine, p, &fixed->increment, e)) == -1)
    return -1;
  if (fixed->increment.since != 0)
    fixed->target_created = 0;
  return 0;
}

/* For others, and for the next server. */
static void
publish (struct snapshot *snap)
{
  memcpy (&snap->entry->increment, &snap->fixed.increment,
          sizeof snap->fixed.increment);
}

static struct image *
make_update (struct snapshot *snap, struct error *e)
{
  return target_make_update (&snap->fixed, snap->entry->target_words,
                             snap->view.cluster_size,
                             snap->fixed.increment.uuid, e);
}

/* A full one.  A file that an earlier backup of ours has made may be replaced
 * if the server was to choose.
 */
static struct image *
make_full (const struct create_params *p, struct snapshot *snap,
           bool *created, struct error *e)
{
  struct cbw_increment *i = &snap->fixed.increment;
  bool force = p->flags & CBW_CREATE_FORCE;
  struct image_mark mark;
  struct image *image;
  struct error ignored;

  if (i->flags & CBW_INCREMENT_CHOSEN && p->target[0] == '/' &&
      image_raw_read_mark (p->target, &mark, &ignored) == 0 &&
      mark.kind != IMAGE_MARK_NONE)
    force = true;
  image = target_make (&snap->fixed, snap->entry->target_words,
                       snap->view.cluster_size, force, created, e);
  if (image == NULL && e->num == EEXIST && i->reason[0])
    error_set (e, EEXIST, "%s: %s, and it is not empty; with --force a full "
               "backup replaces it", p->target, i->reason);
  return image;
}

/* An export says nothing of what it holds.  If that is nothing it is to be a
 * full backup, else all of it is compared.
 */
static struct image *
make_for_export (struct snapshot *snap, bool *created, struct error *e)
{
  struct cbw_increment *i = &snap->fixed.increment;
  struct image *image;

  image = target_make (&snap->fixed, snap->entry->target_words,
                       snap->view.cluster_size, false, created, e);
  if (image)
    set_full (i, "the export is empty");
  else if (e->num == EEXIST) {
    i->flags |= CBW_INCREMENT_COMPARE;
    set_full (i, "an export does not say which image it holds, so all of it is "
              "compared, and what differs is written");
    image = make_update (snap, e);
  }
  return image;
}

int
increment_target (const struct create_params *p, struct snapshot *snap,
                  bool *created, struct error *e)
{
  const struct cbw_increment *i = &snap->fixed.increment;

  if (i->since != 0)
    snap->target = make_update (snap, e);
  else if (i->flags & CBW_INCREMENT_CHOSEN &&
           snap->fixed.target_kind == CBW_TARGET_NBD)
    snap->target = make_for_export (snap, created, e);
  else
    snap->target = make_full (p, snap, created, e);
  publish (snap);
  return snap->target ? 0 : -1;
}

/* All else is in the image.  engine->control is held. */
static void
settle_rest (struct engine *engine, struct snapshot *snap,
             const struct bitmap *changed)
{
  struct settle s = {
    .chain = &engine->chain, .copier = &engine->copier,
    .source = &engine->source.image, .snap = snap,
  };
  const uint64_t n = changed->nbits;
  uint64_t start, end;

  for (start = 0; (start = bitmap_next_clear (changed, start, n)) < n;
       start = end) {
    end = bitmap_next_set (changed, start, n);
    settle_held (&s, start, end);
  }
}

static uint64_t
count_bytes (const struct snapshot *snap, const struct bitmap *changed)
{
  const uint64_t n = changed->nbits;
  uint64_t start, end, bytes = 0;

  for (start = 0; (start = bitmap_next_set (changed, start, n)) < n;
       start = end) {
    end = bitmap_next_clear (changed, start, n);
    bytes += snapshot_bytes (snap, start, end);
  }
  return bytes;
}

/* Y3, for what has changed up to now. */
static int
begin (struct engine *engine, struct snapshot *snap,
       const struct bitmap *changed, struct error *e)
{
  struct cbw_increment *shared = &snap->entry->increment;
  const uint64_t since = snap->fixed.increment.since;
  struct points_entry point;

  LOCK_FOR_SCOPE (&engine->control);
  /* It may be more than it was, if a server was lost (T8). */
  if (!points_find (&engine->points, since, &point) || !point.valid ||
      points_changes (&engine->points, since, snap->view.id, snap->view.size,
                      changed) != 0)
    return error_set (e, ESTALE, "\"%s\", from which changes are counted, was "
                      "dropped, or is not valid any more; make a full backup",
                      snap->fixed.increment.name);
  atomic_store (&shared->changed_bytes, count_bytes (snap, changed));
  settle_rest (engine, snap, changed);
  atomic_store (&shared->begun, 1);
  return 0;
}

/* Of a named point. */
static int
begin_since (struct engine *engine, struct snapshot *snap, bool verify,
             struct error *e)
{
  struct points_entry point = { .id = snap->fixed.increment.since };
  struct bitmap changed;
  int r;

  memcpy (point.name, snap->fixed.increment.name, sizeof point.name);
  r = increment_changes (engine, snap, &point, snap->view.id, snap->view.size,
                         &changed, e);
  if (r == 0 && verify && snap->fixed.target_kind == CBW_TARGET_NBD)
    r = increment_compare (engine, snap, &point, &changed, e);
  if (r == 0)
    r = begin (engine, snap, &changed, e);
  free ((void *) changed.words);
  return r;
}

/* May the export be overwritten with what differs?  It must look like the image
 * of one of the points, the newest first.
 */
static int
check_export (struct engine *engine, struct snapshot *snap, struct error *e)
{
  struct points_entry point = { .id = snap->view.id };
  struct bitmap changed;
  int r = -1;

  error_set (e, EINVAL, "%s: the export holds data, and there is no snapshot or "
             "checkpoint that it could be the image of; with --force what "
             "differs is overwritten", snap->fixed.target);
  while (r == -1 && e->num == EINVAL &&
         points_find_older (&engine->points, point.id, &point)) {
    r = increment_changes (engine, snap, &point, snap->view.id,
                           snap->view.size, &changed, e);
    if (r == 0)
      r = increment_compare (engine, snap, &point, &changed, e);
    free ((void *) changed.words);
  }
  return r;
}

int
increment_begin (struct engine *engine, struct snapshot *snap, bool force,
                 struct error *e)
{
  const struct cbw_increment *i = &snap->fixed.increment;

  if (atomic_load (&snap->entry->increment.begun) == 1)
    return 0;
  if (i->flags & CBW_INCREMENT_COMPARE) {
    if (!force && check_export (engine, snap, e) == -1)
      return -1;
    atomic_store (&snap->entry->increment.begun, 1);
    return 0;
  }
  return i->since == 0 ? 0 : begin_since (engine, snap, !force, e);
}

void
increment_resume (struct engine *engine)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&engine->chain);
  struct snapshot *snap;
  struct error e;
  size_t i;

  for (i = 0; chain && i < chain->len; ++i) {
    snap = chain->snaps[i];
    if (snapshot_state (snap) == CBW_SNAPSHOT_LIVE &&
        increment_begin (engine, snap, false, &e) == -1)
      snapshot_break (snap, CBW_BROKEN_COPY, e.num, 0, e.msg);
  }
}
