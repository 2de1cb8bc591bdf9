/* SPDX-License-Identifier: BSD-3-Clause */

/* Moments of the model's disk: see moment-oracle.h. */

#include <config.h>

#include "model-oracle.h"
#include "unit.h"

static uint32_t *counts;        /* how often each cluster was changed */

static uint64_t
cluster_size (void)
{
  return map ()->geometry.cluster_size;
}

static size_t
counts_bytes (void)
{
  return (model.size / cluster_size () + 1) * sizeof counts[0];
}

static void *
copy_of (const void *data, size_t size)
{
  void *r = malloc (size);

  CHECK (r != NULL);
  return memcpy (r, data, size);
}

const uint32_t *
moment_now (void)
{
  if (counts == NULL)
    counts = calloc (1, counts_bytes ());
  CHECK (counts != NULL);
  return counts;
}

void
moment_count (uint64_t offset, uint64_t count)
{
  uint64_t c;

  moment_now ();
  for (c = offset / cluster_size (); c * cluster_size () < offset + count; ++c)
    counts[c]++;
}

void
moment_new (struct moment *m, uint64_t id, const unsigned char *data)
{
  *m = (struct moment) {
    .id = id, .data = copy_of (data, model.size),
    .least = copy_of (moment_now (), counts_bytes ()),
    .most = copy_of (moment_now (), counts_bytes ()),
  };
}

void
moment_passed (struct moment *m, bool unknown)
{
  memcpy (m->most, moment_now (), counts_bytes ());
  if (unknown)
    m->other = copy_of (model.disk, model.size);
}

void
moment_free (struct moment *m)
{
  free (m->data);
  free (m->other);
  free (m->least);
  free (m->most);
  *m = (struct moment) { .id = 0 };
}

bool
moment_point (const struct moment *m, struct point *p)
{
  static struct point list[CBW_NR_POINTS];
  size_t i, nr;

  if (m->id == 0)
    return false;
  nr = point_list (map (), list);
  for (i = 0; i < nr && list[i].id != m->id; ++i)
    ;
  if (i == nr || list[i].state == CBW_POINT_MERGING)
    return false;
  *p = list[i];
  REQUIRE (p->state == CBW_POINT_VALID, "point \"%s\" is not valid: %s",
           p->name, point_reason (p->reason));
  return true;
}

bool
moment_has (const struct moment *a, uint64_t i, unsigned char byte)
{
  return a->data[i] == byte || (a->other && a->other[i] == byte);
}

bool
moment_changed (const struct moment *a, const uint32_t *then, uint64_t offset,
                uint64_t end)
{
  uint64_t c;

  for (c = offset / cluster_size (); c * cluster_size () < end; ++c)
    if (a->least[c] == then[c])
      return false;
  return true;
}
