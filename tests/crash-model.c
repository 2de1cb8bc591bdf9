/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <fcntl.h>

#include "crash-model.h"
#include "unit.h"
#include "utils/rounding.h"

struct crash_model crash;
struct crash_counts crash_counts;

/* ---- The disk ---- */

#define MIB (UINT64_C (1) << 20)

/* At both ends, across the ends of regions and of a page of a bitmap (which
 * has 128 MiB of 4 KiB clusters).
 */
static const uint64_t windows[CRASH_WINDOWS] = {
  0, 64 * MIB - CRASH_WINDOW / 2, 128 * MIB - CRASH_WINDOW / 2, 200 * MIB,
  CRASH_DISK_SIZE - CRASH_WINDOW
};

uint64_t
place_offset (uint64_t place)
{
  return windows[place / CRASH_WINDOW] + place % CRASH_WINDOW;
}

uint64_t
place_run (uint64_t place)
{
  return CRASH_WINDOW - place % CRASH_WINDOW;
}

void
crash_read_file (unsigned char *to)
{
  const int fd = open (crash.disk_path, O_RDONLY | O_CLOEXEC);
  unsigned i;

  REQUIRE (fd >= 0, "%s: %m", crash.disk_path);
  for (i = 0; i < CRASH_WINDOWS; ++i)
    REQUIRE (pread (fd, to + i * CRASH_WINDOW, CRASH_WINDOW,
                    (off_t) windows[i]) == CRASH_WINDOW,
             "%s: %m", crash.disk_path);
  close (fd);
}

/* ---- Points ---- */

struct crash_point *
point_new (bool snapshot)
{
  struct crash_point *p = &crash.points[crash.nr_points++];

  REQUIRE (crash.nr_points <= CRASH_POINTS, "too many points");
  *p = (struct crash_point) {
    .stand = PERHAPS_THERE, .snapshot = snapshot, .live = snapshot,
    .was.data = malloc (CRASH_PLACES)
  };
  CHECK (p->was.data != NULL);
  snprintf (p->name, sizeof p->name, "%c%" PRIu64, snapshot ? 's' : 'c',
            crash.next_name++);
  memcpy (p->was.data, crash.disk, CRASH_PLACES);
  return p;
}

void
point_forget (struct crash_point *p)
{
  free (p->was.data);
  free (p->was.other);
  *p = crash.points[--crash.nr_points];
}

void
moment_other (struct moment *m, const unsigned char *now)
{
  if (m->other == NULL)
    m->other = malloc (CRASH_PLACES);
  CHECK (m->other != NULL);
  memcpy (m->other, now, CRASH_PLACES);
}

static struct crash_point *
point_called (const char *name)
{
  unsigned i;

  for (i = 0; i < crash.nr_points; ++i)
    if (strcmp (crash.points[i].name, name) == 0)
      return &crash.points[i];
  return NULL;
}

/* ---- Deltas ---- */

static bool
surely_differ (const struct moment *a, const struct moment *b, uint64_t i)
{
  const unsigned char *a2 = a->other ? a->other : a->data;
  const unsigned char *b2 = b->other ? b->other : b->data;

  return a->data[i] != b->data[i] && a->data[i] != b2[i] &&
    a2[i] != b->data[i] && a2[i] != b2[i];
}

/* One that differs, of [place, end), or "end". */
static uint64_t
first_difference (const struct moment *a, const struct moment *b,
                  uint64_t place, uint64_t end)
{
  if (memcmp (a->data + place, b->data + place, end - place) == 0)
    return end;
  for (; place < end; ++place)
    if (surely_differ (a, b, place))
      break;
  return place;
}

void
delta_must_contain (const struct delta *d, const char *what,
                    const struct moment *from, const struct moment *to,
                    bool count)
{
  uint64_t place, end, at, offset, run;

  for (place = 0; place < CRASH_PLACES; place = end) {
    offset = place_offset (place);
    end = place + min_u64 (place_run (place),
                           CRASH_CLUSTER - offset % CRASH_CLUSTER);
    at = first_difference (from, to, place, end);
    if (count)
      crash_counts.changed += at < end;
    REQUIRE (at == end || delta_run (d, offset, offset + 1, &run),
             "%s: byte %" PRIu64 " of the disk was %02x and is %02x, and "
             "cluster %" PRIu64 " is not in the delta", what,
             place_offset (at), from->data[at], to->data[at],
             offset / CRASH_CLUSTER);
  }
  if (count)
    crash_counts.in_delta += delta_bytes (d) / CRASH_CLUSTER;
  crash_counts.compared++;
}

/* From the point to what the disk holds now. */
static void
compare_with_now (const struct point *p, const struct crash_point *model,
                  bool crashed)
{
  const struct moment now = { .data = crash.disk };
  struct delta d = DELTA_INIT;
  struct error e;
  char what[128];

  snprintf (what, sizeof what, "%s to now", model->name);
  REQUIRE (delta_read_now (&crash.client.segment, p, CRASH_DISK_SIZE, &d,
                           &e) == 0, "%s: %s", what, e.msg);
  delta_must_contain (&d, what, &model->was, &now, crashed);
  delta_free (&d);
}

/* From each valid point to the live snapshot. */
static void
compare_with_snapshot (const struct crash_point *to)
{
  struct delta d = DELTA_INIT;
  struct error e;
  char name[160];
  unsigned i;

  for (i = 0; i < crash.nr_points; ++i) {
    const struct crash_point *from = &crash.points[i];

    if (from->stand != THERE || from->was_lost ||
        strtoull (from->name + 1, NULL, 10) > strtoull (to->name + 1, NULL,
                                                        10))
      continue;
    snprintf (name, sizeof name, "%s..%s", from->name, to->name);
    REQUIRE (delta_read (&crash.client.segment, name, &d, &e) == 0, "%s",
             e.msg);
    delta_must_contain (&d, name, &from->was, &to->was, false);
    delta_free (&d);
  }
}

/* ---- All of them ---- */

static void
check_listed (const struct point *p, enum promise promise, bool crashed)
{
  struct crash_point *model = point_called (p->name);
  const bool valid = p->state == CBW_POINT_VALID;

  REQUIRE (model != NULL, "there is a point \"%s\" that nobody made", p->name);
  if (model->stand == DROPPED) {
    REQUIRE (crashed, "%s was dropped, and is there", p->name);
    crash_counts.back++;
  }
  model->stand = THERE;
  if (p->created_ns >= crash.idle_ns) {
    /* A server found its request, and carried it out. */
    memcpy (model->was.data, crash.idle_disk, CRASH_PLACES);
    free (model->was.other);
    model->was.other = NULL;
    promise = crash.idle_crash && promise != STAYS ? MAY_LOSE : STAYS;
  }
  if (promise == LOSES || (promise == MAY_LOSE && !valid))
    model->was_lost = true;
  REQUIRE (valid == !model->was_lost, "%s is %s: %s", p->name,
           valid ? "valid" : "invalid", point_reason (p->reason));
  if (crashed) {
    crash_counts.valid += valid;
    crash_counts.invalid += !valid;
  }
  if (valid)
    compare_with_now (p, model, crashed);
}

static bool
is_listed (const struct point *list, size_t nr, const char *name)
{
  size_t i;

  for (i = 0; i < nr; ++i)
    if (strcmp (list[i].name, name) == 0 &&
        list[i].state != CBW_POINT_MERGING)
      return true;
  return false;
}

void
points_check (enum promise promise, bool crashed)
{
  static struct point list[CBW_NR_POINTS];
  const size_t nr = point_list (&crash.client.segment.map, list);
  struct snapshot_info info;
  struct crash_point *p;
  size_t i;

  for (i = 0; i < nr; ++i)
    if (list[i].state != CBW_POINT_MERGING)
      check_listed (&list[i], promise, crashed);
  for (i = 0; i < crash.nr_points; ) {
    p = &crash.points[i];
    p->snapshot = entry_find (&crash.client.segment.map, p->name, &info);
    p->live = p->live && p->snapshot && info.state == CBW_SNAPSHOT_LIVE;
    if (is_listed (list, nr, p->name)) {
      ++i;
      continue;
    }
    REQUIRE (p->stand != THERE || promise != STAYS,
             "%s was made, and is not there", p->name);
    /* A crash may undo what the server has just done to it, once. */
    if (crashed && p->stand == DROPPED) {
      point_forget (p);
      continue;
    }
    p->was_lost = p->was_lost || promise == LOSES;
    p->stand = DROPPED;
    ++i;
  }
}

void
points_compare (void)
{
  static struct point list[CBW_NR_POINTS];
  const size_t nr = point_list (&crash.client.segment.map, list);
  const struct crash_point *model;
  size_t i;

  for (i = 0; i < nr; ++i) {
    model = point_called (list[i].name);
    if (model && model->stand == THERE && list[i].state == CBW_POINT_VALID)
      compare_with_now (&list[i], model, false);
  }
  for (i = 0; i < crash.nr_points; ++i)
    if (crash.points[i].stand == THERE && crash.points[i].live)
      compare_with_snapshot (&crash.points[i]);
}
