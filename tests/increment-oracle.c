/* SPDX-License-Identifier: BSD-3-Clause */

/* Images that are brought up to date: see increment-oracle.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>

#include "image/image.h"
#include "increment-oracle.h"
#include "points-oracle.h"
#include "request/control.h"
#include "segment/entry.h"
#include "unit.h"

struct increments increments;

static bool
is_export (const struct image_model *im)
{
  return im == &increments.list[NR_IMAGES - 1];
}

/* ---- What it is ---- */

/* An export must be as large as the disk; an empty one has no base. */
static void
empty_export (struct image_model *im)
{
  const int fd = open (im->b.image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

  CHECK (fd >= 0 && ftruncate (fd, 0) == 0 &&
         ftruncate (fd, (off_t) model.size) == 0);
  close (fd);
}

/* There is no image any more. */
static void
image_lose (struct image_model *im)
{
  if (is_export (im))
    empty_export (im);
  else
    unlink (im->b.image);
  moment_free (&im->base);
}

static bool
has_attributes (const char *path)
{
  const int fd = open (path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  bool r;

  CHECK (fd >= 0);
  r = fsetxattr (fd, "user.nbdkit-cbw.test", "", 0, 0) == 0;
  close (fd);
  unlink (path);
  return r;
}

void
increments_start (void)
{
  struct image_model *im;
  unsigned i;

  for (i = 0; i < NR_IMAGES; ++i) {
    im = &increments.list[i];
    memset (im, 0, sizeof *im);
    im->same_name = i == 0;
    snprintf (im->b.image, sizeof im->b.image, "%s/i%u" IMAGE_SUFFIX,
              model.dir, i);
    im->marked = !is_export (im) && has_attributes (im->b.image);
    if (is_export (im)) {
      empty_export (im);
      snprintf (im->b.target, sizeof im->b.target,
                "[ nbdkit --exit-with-parent file %s ]", im->b.image);
    }
    else
      strcpy (im->b.target, im->b.image);
  }
}

static bool
is_image_of (const struct image_model *im, const struct moment *m, char *why,
             size_t len)
{
  return image_same (im->b.image, m->data, model.size, why, len);
}

static void
check_mark (const struct image_model *im)
{
  struct image_mark mark;
  const struct moment *m;
  struct error e;
  char why[256];

  REQUIRE (image_raw_read_mark (im->b.image, &mark, &e) == 0, "%s", e.msg);
  if (mark.kind == IMAGE_MARK_NONE) {
    REQUIRE (access (im->b.image, F_OK) == -1, "%s has lost its mark",
             im->b.image);
    return;
  }
  m = im->base.id && memcmp (mark.uuid, im->base_uuid, 16) == 0 ? &im->base :
    im->b.running && memcmp (mark.uuid, im->uuid, 16) == 0 ? &im->next : NULL;
  REQUIRE (m != NULL, "%s is marked as the image of a point that it never "
           "was to be", im->b.image);
  if (mark.kind == IMAGE_MARK_ON_ITS_WAY)
    REQUIRE (m == &im->base, "%s is on its way from what it was never",
             im->b.image);
  else
    REQUIRE (is_image_of (im, m, why, sizeof why), "%s says that it is the "
             "image of \"%s\": %s", im->b.image,
             m == &im->base ? im->base_name : im->b.name, why);
}

static bool
is_being_replaced (const struct image_model *im)
{
  return im->b.running && im->expected == 0 && model.filter.pid != 0;
}

void
increments_check_marks (const struct image_model *but)
{
  const struct image_model *im;

  for (im = increments.list; im < increments.list + NR_IMAGES; ++im)
    if (im->marked && im != but && !is_being_replaced (im))
      check_mark (im);
}

/* ---- Its backups ---- */

/* What has run is the base from now on. */
static void
advance (struct image_model *im)
{
  moment_free (&im->base);
  im->base = im->next;
  im->next = (struct moment) { .id = 0 };
  strcpy (im->base_name, im->b.name);
  memcpy (im->base_uuid, im->uuid, 16);
}

static void
ended (struct image_model *im)
{
  moment_free (&im->next);
  im->b.data = NULL;
  im->b.running = false;
}

/* Its point stays, whether or not the result is fetched. */
static void
complete (struct backup *b)
{
  struct image_model *im = (struct image_model *) b;
  struct error e;

  backup_check_image (b);
  if (b->dice % 4)
    REQUIRE (control_drop_id (&model.patient, b->id, CBW_DROP_KEEP_POINT, 0,
                              &e) == 0,
             "the result of increment %s: %s", b->name, e.msg);
  advance (im);
  ended (im);
  if (im->marked)
    check_mark (im);
  if (b->dice % 32 == 1)
    image_lose (im);
  increments.completed++;
}

/* It may have been complete in the last moment: then its point is gone all the
 * same.  Of an export nobody can tell.
 */
static void
cancelled (struct backup *b)
{
  struct image_model *im = (struct image_model *) b;
  struct image_mark mark;
  struct error e;

  REQUIRE (image_raw_read_mark (b->image, &mark, &e) == 0, "%s", e.msg);
  if (im->marked && mark.kind == IMAGE_MARK_WHOLE &&
      memcmp (mark.uuid, im->uuid, 16) == 0) {
    backup_check_image (b);
    advance (im);
  }
  else if (is_export (im) && im->base.id == 0)
    empty_export (im);
  ended (im);
  if (im->marked)
    check_mark (im);
  increments.cancelled++;
}

/* A point that the image is not of. */
static uint64_t
wrong_point (const struct image_model *im, uint64_t dice)
{
  struct point list[CBW_NR_POINTS];
  const size_t nr = point_list (map (), list);
  const struct point *p = nr ? &list[dice % nr] : NULL;

  return p && p->state == CBW_POINT_VALID && p->id != im->base.id ? p->id : 0;
}

static bool
is_newest_point (uint64_t id)
{
  struct point list[CBW_NR_POINTS];
  const size_t nr = point_list (map (), list);

  return nr > 0 && list[nr - 1].id == id;
}

/* An export is not marked: only what it is may be asked for. */
static void
plan_export (struct image_model *im, bool there, uint64_t dice)
{
  if (im->base.id && !there)
    image_lose (im);
  im->expected = im->base.id;
  im->since = im->base.id == 0 ||
    (dice % 4 == 0 && is_newest_point (im->base.id)) ? CBW_SINCE_AUTO :
    im->base.id;
}

static void
plan_file (struct image_model *im, bool there, uint64_t dice)
{
  const uint64_t wrong = dice % 5 == 0 ? wrong_point (im, dice / 5) : 0;

  im->expected = there ? im->base.id : 0;
  im->since = CBW_SINCE_AUTO;
  if (wrong != 0) {
    im->since = wrong;
    im->refused = true;
  }
  else if (im->base.id && dice % 3) {
    im->since = im->base.id;
    im->refused = !there;
  }
}

void
increment_plan (struct image_model *im, uint64_t dice)
{
  struct backup *b = &im->b;
  struct point p;
  bool there;

  b->dice = dice;
  b->id = 0;
  b->complete = complete;
  b->cancelled = cancelled;
  if (im->same_name)
    strcpy (b->name, "nightly");
  else
    snprintf (b->name, sizeof b->name, "i%" PRIu64, model.next_name++);
  im->refused = false;
  there = moment_point (&im->base, &p);
  if (is_export (im))
    plan_export (im, there, dice);
  else
    plan_file (im, there, dice);
}

int
increment_begin (struct image_model *im, struct client *client,
                 uint64_t speed, struct error *e)
{
  const struct control_snapshot s = {
    .name = im->b.name, .target = im->b.target, .options = { .backup = 1 },
    .speed = speed, .flags = CBW_CREATE_SINCE, .since = im->since,
  };
  uint64_t held_ns;

  return control_create (client, &s, &held_ns, e);
}

bool
increment_is_listed (const struct image_model *im)
{
  struct snapshot_info info;

  return entry_find (map (), im->b.name, &info) && info.id > im->last;
}

void
increment_add (struct image_model *im, const unsigned char *data)
{
  struct cbw_snapshot entry;
  struct backup *b = &im->b;

  backup_find (b);
  REQUIRE (entry_copy (map (), b->index, &entry), "increment %s is damaged",
           b->name);
  REQUIRE (!im->refused, "increment %s was to be refused: it is made from "
           "point %" PRIu64 ", and the image is of %" PRIu64, b->name,
           entry.increment.since, im->base.id);
  REQUIRE (entry.increment.since == im->expected, "increment %s is made from "
           "point %" PRIu64 ", not from %" PRIu64 " (%s)", b->name,
           entry.increment.since, im->expected, entry.increment.reason);
  im->last = b->id;
  memcpy (im->uuid, entry.uuid, 16);
  moment_new (&im->next, b->id, data);
  b->data = im->next.data;
  b->running = true;
  increments.begun++;
  increments.full += im->expected == 0;
}

void
increment_drop_base (const struct image_model *im)
{
  struct point p;
  struct error e;

  if (!moment_point (&im->base, &p))
    return;
  REQUIRE (control_drop_id (&model.patient, p.id, 0, 0, &e) == 0,
           "dropping the point of %s: %s", im->base_name, e.msg);
  REQUIRE (!moment_point (&im->base, &p), "the point of %s is still there",
           im->base_name);
}

bool
increment_refused (const struct image_model *im, const struct error *e)
{
  /* That there is no room is found out first. */
  if (!im->refused || e->num == ENOSPC)
    return false;
  REQUIRE (e->num == EINVAL || e->num == ENOENT, "increment %s: %s",
           im->b.name, e->msg);
  increments.refused++;
  return true;
}

void
increments_check (void)
{
  struct image_model *im;

  for (im = increments.list; im < increments.list + NR_IMAGES; ++im)
    if (im->b.running && backup_stand (&im->b) != BACKUP_RUNS)
      complete (&im->b);
}

void
increments_end (uint64_t *seed)
{
  struct image_model *im;

  for (im = increments.list; im < increments.list + NR_IMAGES; ++im)
    if (im->b.running && unit_random (seed) % 2)
      backup_cancel (&im->b);
    else if (im->b.running)
      backup_await (&im->b);
}
