/* SPDX-License-Identifier: BSD-3-Clause */

/* Points and deltas in the model of both servers: see points-oracle.h. */

#include <config.h>

#include "points-oracle.h"
#include "request/control.h"
#include "segment/delta.h"
#include "unit.h"
#include "utils/rounding.h"

struct points_model points;

/* ---- Which there are ---- */

struct checkpoint *
checkpoint_new (void)
{
  struct checkpoint *c = &points.list[points.nr];

  memset (c, 0, sizeof *c);
  snprintf (c->name, sizeof c->name, "p%" PRIu64, model.next_name++);
  return c;
}

bool
point_is_there (const char *name)
{
  struct point p;

  if (!point_find (map (), name, &p) || p.state == CBW_POINT_MERGING)
    return false;
  REQUIRE (p.state == CBW_POINT_VALID, "point \"%s\" is not valid: %s", name,
           point_reason (p.reason));
  return true;
}

void
checkpoint_add (struct checkpoint *c, const unsigned char *data)
{
  struct point p;

  REQUIRE (point_find (map (), c->name, &p), "checkpoint \"%s\" was made, and "
           "is not there", c->name);
  moment_new (&c->at, p.id, data);
  points.nr++;
  points.made++;
}

void
checkpoint_remove (struct checkpoint *c)
{
  struct point p;

  REQUIRE (!moment_point (&c->at, &p), "checkpoint \"%s\" was dropped, and is "
           "there", c->name);
  moment_free (&c->at);
  *c = points.list[--points.nr];
  points.dropped++;
}

void
checkpoint_keep (struct snap *s)
{
  struct checkpoint *c = &points.list[points.nr++];
  struct point p;

  REQUIRE (moment_point (&s->at, &p), "%s: its point was to stay, and is gone",
           s->name);
  strcpy (c->name, s->name);
  c->at = s->at;
  s->at = (struct moment) { .id = 0 };
  points.kept++;
}

void
point_follows (const char *name)
{
  struct error e;

  if (point_is_there (name))
    REQUIRE (control_drop (&model.patient, name, 0, 0, &e) == 0, "%s", e.msg);
}

static void
check_there (const struct moment *m, const char *name)
{
  struct point p;

  REQUIRE (moment_point (m, &p), "the point \"%s\" is gone", name);
  REQUIRE (strcmp (p.name, name) == 0, "the point \"%s\" is called \"%s\"",
           name, p.name);
}

static bool
is_known (uint64_t id)
{
  unsigned i;

  for (i = 0; i < points.nr; ++i)
    if (points.list[i].at.id == id)
      return true;
  for (i = 0; i < model.nr_snaps; ++i)
    if (model.snaps[i].at.id == id)
      return true;
  return false;
}

void
points_check (bool (*spare) (const char *name))
{
  static struct point list[CBW_NR_POINTS];
  size_t nr, j;
  unsigned i;

  for (i = 0; i < points.nr; ++i)
    check_there (&points.list[i].at, points.list[i].name);
  for (i = 0; i < model.nr_snaps; ++i)
    check_there (&model.snaps[i].at, model.snaps[i].name);
  nr = point_list (map (), list);
  for (j = 0; j < nr; ++j)
    REQUIRE ((list[j].flags & CBW_POINT_BACKUP) ||
             list[j].state == CBW_POINT_MERGING || is_known (list[j].id) ||
             spare (list[j].name), "there is a point \"%s\", which nobody "
             "made or which was dropped", list[j].name);
}

void
points_drop_all (uint64_t *seed)
{
  static struct point list[CBW_NR_POINTS];
  struct checkpoint *c;
  struct error e;
  size_t nr;

  while (points.nr > 0) {
    c = &points.list[unit_random (seed) % points.nr];
    REQUIRE (control_drop (&model.patient, c->name, 0, 0, &e) == 0, "%s",
             e.msg);
    checkpoint_remove (c);
  }
  while ((nr = point_list (map (), list)) > 0) {
    nr = unit_random (seed) % nr;
    REQUIRE (list[nr].flags & CBW_POINT_BACKUP, "the point \"%s\" is left",
             list[nr].name);
    REQUIRE (control_drop_id (&model.patient, list[nr].id, 0, 0, &e) == 0,
             "%s", e.msg);
  }
}

/* ---- Deltas ---- */

struct look {
  const struct moment *from;
  const unsigned char *data;    /* the disk at its end */
  const uint32_t *then;         /* changes by then */
  const char *name;
  uint64_t done;                /* looked at up to there */
};

/* [offset, end) is in the delta, or is not. */
static void
check_run (const struct look *l, bool changed, uint64_t offset, uint64_t end)
{
  if (changed) {
    REQUIRE (moment_changed (l->from, l->then, offset, end), "%s has bytes %"
             PRIu64 " to %" PRIu64 ", where nobody wrote", l->name, offset,
             end);
    return;
  }
  for (; offset < end; ++offset)
    REQUIRE (moment_has (l->from, offset, l->data[offset]), "%s lacks byte %"
             PRIu64 ", which was %02x and is %02x", l->name, offset,
             l->from->data[offset], l->data[offset]);
}

static int
check_extents (void *opaque, const char *context, uint64_t offset,
               uint32_t *entries, size_t n, int *error)
{
  struct look *l = opaque;
  uint64_t end, i;

  (void) context;
  (void) error;
  for (; n >= 2; entries += 2, n -= 2, offset = end) {
    end = min_u64 (offset + entries[0], model.size);
    check_run (l, entries[1] != LIBNBD_STATE_HOLE, offset, end);
    for (i = offset; entries[1] & LIBNBD_STATE_ZERO && i < end; ++i)
      REQUIRE (l->data[i] == 0, "%s: byte %" PRIu64 " is called zero, and is %"
               "02x", l->name, i, l->data[i]);
    l->done = end;
  }
  return 0;
}

static void
compare_export (struct nbd_handle *nbd, struct look *l)
{
  const nbd_extent_callback callback = {
    .callback = check_extents, .user_data = l
  };

  REQUIRE (nbd_get_size (nbd) == (int64_t) model.size, "%s: its size is %"
           PRIi64, l->name, nbd_get_size (nbd));
  while (l->done < model.size)
    REQUIRE (nbd_block_status (nbd, model.size - l->done, l->done, callback,
                               0) == 0, "%s: %s", l->name, nbd_get_error ());
  REQUIRE (nbd_pread (nbd, model.buf, model.size, 0, 0) == 0, "%s: %s",
           l->name, nbd_get_error ());
  REQUIRE (memcmp (model.buf, l->data, model.size) == 0,
           "%s does not read as its end", l->name);
}

void
delta_compare (const struct moment *a, const char *name, const struct snap *b)
{
  char export[2 * CBW_NAME_MAX + 2];
  struct look l = {
    .from = a, .data = b->at.data, .then = b->at.most, .name = export
  };
  struct nbd_handle *nbd;

  snprintf (export, sizeof export, "%s..%s", name, b->name);
  nbd = live_connect (&model.plugin, export);
  REQUIRE ((nbd != NULL) == (a->id <= b->at.id), "%s: %s", export,
           nbd ? "can be opened, and ends before it begins" :
           nbd_get_error ());
  if (nbd == NULL)
    return;
  compare_export (nbd, &l);
  nbd_close (nbd);
  points.deltas++;
}

void
delta_compare_now (const struct moment *a)
{
  struct look l = {
    .from = a, .data = model.disk, .then = moment_now (),
    .name = "the delta until now"
  };
  struct delta d = DELTA_INIT;
  uint64_t offset, end;
  struct point p;
  struct error e;
  bool changed;

  REQUIRE (moment_point (a, &p), "the point %" PRIu64 " is gone", a->id);
  REQUIRE (delta_read_now (&model.patient.segment, &p, model.size, &d,
                           &e) == 0, "%s: %s", p.name, e.msg);
  for (offset = 0; offset < model.size; offset = end) {
    changed = delta_run (&d, offset, model.size, &end);
    check_run (&l, changed, offset, end);
  }
  delta_free (&d);
  points.deltas++;
}
