/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "segment/directory.h"
#include "unit.h"

#define CS 4096
#define SIZE (UINT64_C (300) * 1024 * CS)
#define ALL (CBW_NR_SNAPSHOTS * CBW_BACKUP_BITMAPS)

static struct cbw_map map;
static struct directory dir;

static void
start (void)
{
  memset (&map, 0, sizeof map);
  layout_geometry (SIZE, CS, 0, &map.geometry);
  map.base = calloc (1, map.geometry.inflight_offset);
  CHECK (map.base != NULL);
  directory_copy (&map, &dir);
}

static void
end (void)
{
  free (map.base);
}

static uint64_t
add (unsigned snapshot, enum cbw_bitmap_kind kind)
{
  uint64_t offset;
  unsigned i;

  CHECK (directory_place (&dir, &map.geometry, CBW_BITMAP_DONE, &i,
                          &offset));
  directory_add (&dir, &map, i, CBW_OWNER_SNAPSHOT, snapshot, kind, offset);
  return offset;
}

static void
fill (void)
{
  unsigned i, kind;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    for (kind = 0; kind < CBW_BACKUP_BITMAPS; ++kind)
      CHECK_EQ (add (i, kind), layout_file_size (&map.geometry, 4 * i + kind));
}

/* Make the sum of a record of "dir" right again. */
static void
resum (struct cbw_bitmap_record *r)
{
  r->sum = layout_sum (&r->kind, offsetof (struct cbw_bitmap_record, sum) -
                       offsetof (struct cbw_bitmap_record, kind));
}

static bool
problem (unsigned i, uint64_t file_size, const char *expected)
{
  char text[DIRECTORY_TEXT_MAX] = "";
  bool r = directory_problem (&dir, i, &map.geometry, file_size, text,
                              sizeof text);

  if (strstr (text, expected) == NULL)
    fprintf (stderr, "record %u: \"%s\", not \"%s\"\n", i, text, expected);
  return r && strstr (text, expected);
}

static bool
is_good (unsigned i)
{
  char text[DIRECTORY_TEXT_MAX];

  return !directory_problem (&dir, i, &map.geometry,
                             layout_file_size (&map.geometry, ALL), text,
                             sizeof text);
}

/* They lie side by side, and a copy tells others where. */
static void
test_all (void)
{
  uint64_t bitmaps[CBW_NR_SNAPSHOTS][CBW_BACKUP_BITMAPS];
  struct bitmap b;
  unsigned i;

  start ();
  fill ();
  memcpy (bitmaps, map.bitmaps, sizeof bitmaps);
  memset (map.bitmaps, 0, sizeof map.bitmaps);
  memset (&dir, 0, sizeof dir);
  directory_copy (&map, &dir);
  for (i = 0; i < CBW_NR_BITMAPS; ++i)
    CHECK (is_good (i));
  directory_find (&dir, layout_file_size (&map.geometry, ALL), &map);
  CHECK (memcmp (bitmaps, map.bitmaps, sizeof bitmaps) == 0);
  b = map_bitmap (&map, 5, CBW_BITMAP_SETTLED, SIZE + 1);
  CHECK_EQ (b.nbits, SIZE / CS + 1);
  CHECK_EQ ((unsigned char *) b.words - map.base,
            layout_file_size (&map.geometry, 22));

  /* What the file does not have is not found. */
  memset (map.bitmaps, 0, sizeof map.bitmaps);
  directory_find (&dir, layout_file_size (&map.geometry, 3) - 1, &map);
  CHECK (map.bitmaps[0][1] != 0 && map.bitmaps[0][2] == 0);
  CHECK_EQ (map.bitmaps[1][0], 0);
  CHECK (problem (2, layout_file_size (&map.geometry, 3) - 1,
                  "not in the part of the file"));
  end ();
}

static void
test_problems (void)
{
  const struct cbw_bitmap_record good = {
    .state = CBW_BITMAP_IN_USE, .kind = CBW_BITMAP_DONE,
    .owner_kind = CBW_OWNER_SNAPSHOT, .owner = 7, .granularity = CS,
  };
  struct cbw_bitmap_record *r = &dir.records[9];

  start ();
  add (0, CBW_BITMAP_ACCESS);
#define TRY(change, text)                                               \
  do {                                                                  \
    memcpy (r, &good, sizeof *r);                                       \
    r->offset = layout_file_size (&map.geometry, 4);                    \
    r->size = map.geometry.bitmap_size;                                 \
    change;                                                             \
    resum (r);                                                          \
    CHECK (problem (9, layout_file_size (&map.geometry, ALL), text));   \
  } while (0)
  TRY (r->state = 2, "state 2, which has no meaning");
  TRY (r->offset++, "not in the part of the file");
  TRY (r->size -= 1, "not in the part of the file");
  TRY (r->size = 0, "not in the part of the file");
  TRY (r->size = - (uint64_t) CBW_PAGE, "not in the part of the file");
  TRY (r->offset = - (uint64_t) CBW_PAGE, "not in the part of the file");
  TRY (r->offset = map.geometry.bitmaps_offset - CBW_PAGE,
       "not in the part of the file");
  TRY (r->granularity = 0, "cannot have");
  TRY (r->granularity = 3 * CS, "cannot have");
  TRY (r->granularity = 2 * CS, "cannot have");
  TRY (r->size += CBW_PAGE, "cannot have");
  TRY (r->owner = CBW_NR_SNAPSHOTS, "cannot have");
  TRY ((r->owner_kind = CBW_OWNER_POINT, r->owner = CBW_NR_POINTS),
       "cannot have");
  TRY (r->owner_kind = CBW_OWNER_DISK, "cannot have");
  TRY (r->offset = map.geometry.bitmaps_offset, "overlaps record 0");
  TRY (r->offset = map.geometry.bitmaps_offset + CBW_PAGE,
       "overlaps record 0");
  TRY ((r->kind = CBW_BITMAP_ACCESS, r->owner = 0),
       "the same bitmap as record 0");

  TRY (r->granularity = 0, "cannot have");
  r->granularity = CS;
  r->sum++;
  CHECK (problem (9, layout_file_size (&map.geometry, ALL), "checksum"));
  r->sum--;
  resum (r);
  CHECK (is_good (9));
  r->state = CBW_BITMAP_FREE;
  r->sum++;
  CHECK (is_good (9));          /* nobody looks */
  end ();
}

/* What later versions add is left alone, and nothing is put over it. */
static void
test_unknown (void)
{
  struct cbw_bitmap_record *r = &dir.records[0];
  uint64_t first;

  start ();
  first = map.geometry.bitmaps_offset;
  *r = (struct cbw_bitmap_record) {
    .state = CBW_BITMAP_IN_USE, .kind = 77, .owner_kind = 9, .owner = 1234567,
    .granularity = CBW_HOT_REGION, .offset = first + CBW_PAGE,
    .size = CBW_PAGE,
  };
  resum (r);
  CHECK (is_good (0));
  CHECK_EQ (add (0, CBW_BITMAP_ACCESS), first + 2 * CBW_PAGE);
  CHECK_EQ (add (0, CBW_BITMAP_DONE),
            first + 2 * CBW_PAGE + map.geometry.bitmap_size);
  CHECK (is_good (1) && is_good (2));
  CHECK_EQ (map.bitmaps[0][CBW_BITMAP_ACCESS], first + 2 * CBW_PAGE);
  CHECK_EQ (r->kind, 77);
  end ();
}

static void
test_full (void)
{
  uint64_t offset;
  unsigned i;

  start ();
  for (i = 0; i < CBW_NR_BITMAPS; ++i)
    atomic_store (&dir.records[i].state, CBW_BITMAP_IN_USE);
  CHECK (!directory_place (&dir, &map.geometry, CBW_BITMAP_DONE, &i,
                          &offset));
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_all);
  RUN (test_problems);
  RUN (test_unknown);
  RUN (test_full);
  return unit_end ();
}
