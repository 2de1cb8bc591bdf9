/* SPDX-License-Identifier: BSD-3-Clause */

/* Copying, checking and extending the bitmap directory.  The server does that
 * when it takes a segment and when it adds a snapshot's bitmaps; cbwctl does
 * it to look at them.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "segment/directory.h"
#include "utils/rounding.h"

static struct cbw_bitmap_record *
map_record (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_bitmap_record *)
    (m->base + m->geometry.directory_offset) + i;
}

static uint32_t
state_of (const struct cbw_bitmap_record *r)
{
  return atomic_load_explicit (&((struct cbw_bitmap_record *) r)->state,
                               memory_order_relaxed);
}

static bool
in_use (const struct cbw_bitmap_record *r)
{
  return state_of (r) == CBW_BITMAP_IN_USE;
}

static uint64_t
sum_of (const struct cbw_bitmap_record *r)
{
  const size_t start = offsetof (struct cbw_bitmap_record, kind);

  return layout_sum ((const char *) r + start,
                     offsetof (struct cbw_bitmap_record, sum) - start);
}

void
directory_copy (const struct cbw_map *m, struct directory *d)
{
  uint32_t state;
  unsigned i;

  for (i = 0; i < CBW_NR_BITMAPS; ++i) {
    /* First, as the rest is written before IN_USE. */
    state = atomic_load_explicit (&map_record (m, i)->state,
                                  memory_order_acquire);
    memcpy (&d->records[i], map_record (m, i), sizeof d->records[i]);
    atomic_init (&d->records[i].state, state);
  }
}

/* Does it lie in the file, behind all other regions? */
static bool
is_in_file (const struct cbw_bitmap_record *r, const struct cbw_geometry *g,
            uint64_t file_size)
{
  return r->offset % CBW_PAGE == 0 && r->size % CBW_PAGE == 0 &&
    r->offset >= g->bitmaps_offset && r->offset < file_size &&
    r->size > 0 && r->size <= file_size - r->offset;
}

/* Where a bitmap that this program uses belongs in the map; NULL if it is
 * another's.  The owner is in range.
 */
static uint64_t *
place_in_map (uint32_t owner_kind, uint32_t owner, uint32_t kind,
              struct cbw_map *m)
{
  switch (owner_kind) {
  case CBW_OWNER_SNAPSHOT:
    return kind < CBW_BACKUP_BITMAPS ? &m->bitmaps[owner][kind] : NULL;
  case CBW_OWNER_POINT:
    return kind == CBW_BITMAP_CHANGED ? &m->changed[owner] : NULL;
  case CBW_OWNER_DISK:
    return kind == CBW_BITMAP_HOT ? &m->hot : NULL;
  default:
    return NULL;
  }
}

uint64_t
directory_bitmap_size (enum cbw_bitmap_kind kind, const struct cbw_geometry *g)
{
  return kind == CBW_BITMAP_HOT ? layout_hot_size (g) : g->bitmap_size;
}

/* What a bit of it stands for. */
static uint64_t
granularity_of (uint32_t kind, const struct cbw_geometry *g)
{
  return kind == CBW_BITMAP_HOT ? layout_hot_region (g) : g->cluster_size;
}

/* If it is a bitmap that this program uses, has it the right form? */
static bool
has_form (const struct cbw_bitmap_record *r, const struct cbw_geometry *g)
{
  struct cbw_map any;

  return place_in_map (r->owner_kind, r->owner, r->kind, &any) == NULL ||
    (r->granularity == granularity_of (r->kind, g) &&
     r->size == directory_bitmap_size (r->kind, g));
}

static bool
has_owner (const struct cbw_bitmap_record *r, const struct cbw_geometry *g)
{
  switch (r->owner_kind) {
  case CBW_OWNER_DISK: return r->owner == 0;
  case CBW_OWNER_SNAPSHOT: return r->owner < g->nr_snapshots;
  case CBW_OWNER_POINT: return r->owner < g->nr_points;
  default: return true;         /* of an owner that a later version knows */
  }
}

static bool
overlap (const struct cbw_bitmap_record *a, const struct cbw_bitmap_record *b)
{
  return a->offset < b->offset ? b->offset - a->offset < a->size :
    a->offset - b->offset < b->size;
}

static bool
is_same_bitmap (const struct cbw_bitmap_record *a,
                const struct cbw_bitmap_record *b)
{
  return a->owner_kind == b->owner_kind && a->owner == b->owner &&
    a->kind == b->kind;
}

bool
directory_problem (const struct directory *d, unsigned i,
                   const struct cbw_geometry *g, uint64_t file_size,
                   char *text, size_t len)
{
  const struct cbw_bitmap_record *r = &d->records[i], *other;

  if (state_of (r) == CBW_BITMAP_FREE)
    return false;
  if (!in_use (r)) {
    snprintf (text, len, "it is in state %" PRIu32 ", which has no meaning",
              state_of (r));
    return true;
  }
  if (r->sum != sum_of (r)) {
    snprintf (text, len, "its checksum is wrong");
    return true;
  }
  if (!is_in_file (r, g, file_size)) {
    snprintf (text, len, "%" PRIu64 " bytes at offset %" PRIu64 " are not "
              "in the part of the file that is for bitmaps", r->size,
              r->offset);
    return true;
  }
  if (!has_owner (r, g) || !is_power_of_2 (r->granularity) ||
      !has_form (r, g)) {
    snprintf (text, len, "a bitmap of kind %" PRIu32 " of owner %" PRIu32
              " (kind %" PRIu32 ") cannot have %" PRIu64 " bytes, and a bit "
              "for each %" PRIu64 " bytes of the disk", r->kind, r->owner,
              r->owner_kind, r->size, r->granularity);
    return true;
  }
  for (other = d->records; other < d->records + CBW_NR_BITMAPS; ++other)
    if (other != r && in_use (other) &&
        (overlap (r, other) || is_same_bitmap (r, other))) {
      snprintf (text, len, "it %s record %td",
                overlap (r, other) ? "overlaps" : "is the same bitmap as",
                other - d->records);
      return true;
    }
  return false;
}

void
directory_find (const struct directory *d, uint64_t file_size,
                struct cbw_map *m)
{
  const struct cbw_bitmap_record *r;
  char text[DIRECTORY_TEXT_MAX];
  uint64_t *place;
  unsigned i;

  for (i = 0; i < CBW_NR_BITMAPS; ++i) {
    r = &d->records[i];
    if (!in_use (r) ||
        directory_problem (d, i, &m->geometry, file_size, text, sizeof text))
      continue;
    place = place_in_map (r->owner_kind, r->owner, r->kind, m);
    if (place)
      *place = r->offset;
  }
}

/* The first record that has a part of the place, or NULL. */
static const struct cbw_bitmap_record *
find_overlap (const struct directory *d,
              const struct cbw_bitmap_record *place)
{
  const struct cbw_bitmap_record *r;

  for (r = d->records; r < d->records + CBW_NR_BITMAPS; ++r)
    if (in_use (r) && overlap (r, place))
      return r;
  return NULL;
}

bool
directory_place (const struct directory *d, const struct cbw_geometry *g,
                 enum cbw_bitmap_kind kind, unsigned *i, uint64_t *offset)
{
  struct cbw_bitmap_record place = {
    .offset = g->bitmaps_offset, .size = directory_bitmap_size (kind, g)
  };
  const struct cbw_bitmap_record *r;

  for (*i = 0; *i < CBW_NR_BITMAPS && in_use (&d->records[*i]); ++*i)
    ;
  if (*i == CBW_NR_BITMAPS)
    return false;
  while ((r = find_overlap (d, &place)) != NULL)
    place.offset = r->offset + r->size;
  *offset = place.offset;
  return true;
}

void
directory_add (struct directory *d, struct cbw_map *m, unsigned i,
               enum cbw_bitmap_owner owner_kind, unsigned owner,
               enum cbw_bitmap_kind kind, uint64_t offset)
{
  struct cbw_bitmap_record *r = &d->records[i], *shared = map_record (m, i);
  const size_t start = offsetof (struct cbw_bitmap_record, kind);

  *r = (struct cbw_bitmap_record) {
    .state = CBW_BITMAP_IN_USE,
    .kind = kind,
    .owner_kind = owner_kind,
    .owner = owner,
    .granularity = granularity_of (kind, &m->geometry),
    .offset = offset,
    .size = directory_bitmap_size (kind, &m->geometry),
  };
  r->sum = sum_of (r);
  memcpy ((char *) shared + start, (const char *) r + start,
          sizeof *r - start);
  atomic_store_explicit (&shared->state, CBW_BITMAP_IN_USE,
                         memory_order_release);
  *place_in_map (owner_kind, owner, kind, m) = offset;
}
