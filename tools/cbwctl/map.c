/* SPDX-License-Identifier: BSD-3-Clause */

/* Old data goes to the newest snapshot only, so what snapshot k reads from
 * a target is what has a done bit in k or a newer one
 * (filters/cbw/snapshot/chain.h).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbwctl.h"
#include "format.h"
#include "map.h"
#include "segment/delta.h"
#include "segment/segment.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* The snapshots may change while we look. */
#define TRIES 10

static const char help[] =
  "Usage: cbwctl map SEGMENT NAME [OPTIONS]\n"
  "\n"
  "Shows which parts of the disk were copied for the snapshot NAME, so that\n"
  "it reads them from a target, and which it still reads from the disk.\n"
  "If NAME is A..B, shows which parts have changed from the snapshot or\n"
  "checkpoint A to the snapshot B; A.. is to the newest snapshot.\n"
  "\n"
  "  --plain  a list, in the format of nbdinfo --map\n"
  "  --json   the same as JSON, in the format of nbdinfo --map --json\n"
  "  --help   print this help\n";

static const struct option options[] = {
  { "plain", no_argument, NULL, 'p' },
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

static const struct map_words snapshot_words = {
  .names = {
    [MAP_UNTOUCHED] = "untouched",
    [MAP_COPIED] = "copied",
    [MAP_INACCESSIBLE] = "inaccessible",
  },
  .legend = {
    [MAP_UNTOUCHED] = "untouched, read from the disk",
    [MAP_COPIED] = "copied, read from a target",
    [MAP_INACCESSIBLE] = "inaccessible, at least in part",
  },
  .partly = "partly copied",
};

enum map_type
map_run (const struct map *map, uint64_t c, uint64_t *end)
{
  *end = map->clusters;
  if (map->access.words && !bitmap_test (&map->access, c)) {
    *end = bitmap_next_set (&map->access, c, map->clusters);
    return MAP_INACCESSIBLE;
  }
  if (map->access.words)
    *end = bitmap_next_clear (&map->access, c, map->clusters);
  if (bitmap_test (&map->copied, c)) {
    *end = bitmap_next_clear (&map->copied, c, *end);
    return MAP_COPIED;
  }
  *end = bitmap_next_set (&map->copied, c, *end);
  return MAP_UNTOUCHED;
}

/* Which snapshots, by entry, were at work at one moment? */
struct table {
  uint64_t ids[CBW_NR_SNAPSHOTS]; /* 0: none */
  uint64_t sizes[CBW_NR_SNAPSHOTS];
};

static void
read_table (const struct cbw_map *m, struct table *t)
{
  struct cbw_snapshot entry;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    t->ids[i] = 0;
    if (entry_copy (m, i, &entry) &&
        atomic_load (&entry.state) != CBW_SNAPSHOT_RESERVED) {
      t->ids[i] = entry.id;
      t->sizes[i] = entry.size;
    }
  }
}

/* Are the snapshots from "id" on those that they were?  New ones do not
 * matter, nor do older ones.
 */
static bool
unchanged (const struct cbw_map *m, const struct table *before, uint64_t id)
{
  struct table now;
  unsigned i;

  read_table (m, &now);
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (before->ids[i] >= id && now.ids[i] != before->ids[i])
      return false;
  return true;
}

/* Add the bits of a bitmap in the segment to one of ours. */
static void
add_bits (struct bitmap *to, const struct bitmap *from)
{
  const uint64_t n = bitmap_bytes (min_u64 (to->nbits, from->nbits)) / 8;
  uint64_t w;

  for (w = 0; w < n; ++w)
    atomic_fetch_or_explicit (&to->words[w],
                              atomic_load_explicit (&from->words[w],
                                                    memory_order_acquire),
                              memory_order_relaxed);
}

static int
new_bitmap (struct bitmap *b, uint64_t nbits, struct error *e)
{
  b->nbits = nbits;
  b->words = calloc (1, bitmap_bytes (nbits) + 8);
  return b->words ? 0 : error_set_errno (e, ENOMEM, "bitmap");
}

static void
map_free (struct map *map)
{
  free ((void *) map->access.words);
  free ((void *) map->copied.words);
}

/* Gather what the bitmaps say now. */
static int
gather (struct segment *segment, struct map *map,
        const struct table *table, struct error *e)
{
  const struct cbw_map *m = &segment->map;
  struct bitmap b;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    if (table->ids[i] == 0 || table->ids[i] < map->info.id)
      continue;
    if (!segment_find_bitmaps (segment, i, CBW_SNAPSHOT_BITMAPS) ||
        !layout_has_room (&m->geometry, table->sizes[i]))
      return error_set (e, EBADMSG, "%s: is damaged: the bitmaps of entry %u "
                        "are missing; cbwctl check says more", segment->path,
                        i);
    b = map_bitmap (m, i, CBW_BITMAP_DONE, table->sizes[i]);
    add_bits (&map->copied, &b);
    if (i == map->info.index) {
      b = map_bitmap (m, i, CBW_BITMAP_ACCESS, table->sizes[i]);
      add_bits (&map->access, &b);
    }
  }
  return 0;
}

/* One try to make the map: 1 it is there, 0 try again, -1 error. */
static int
try_map (struct segment *segment, const char *name, struct map *map,
         struct error *e)
{
  const struct cbw_map *m = &segment->map;
  struct table table;

  *map = (struct map) {
    .words = &snapshot_words, .cluster_size = m->geometry.cluster_size
  };
  if (!entry_find (m, name, &map->info))
    return error_set (e, ENOENT, "%s: there is no snapshot \"%s\"; "
                      "cbwctl status lists those there are", segment->path,
                      name);
  read_table (m, &table);
  if (table.ids[map->info.index] != map->info.id)
    return 0;
  if (!layout_has_room (&m->geometry, map->info.size))
    return error_set (e, EBADMSG, "%s: is damaged: snapshot \"%s\" has an "
                      "impossible size; cbwctl check says more",
                      segment->path, name);
  strcpy (map->name, map->info.name);
  map->size = map->info.size;
  map->clusters = layout_clusters (&m->geometry, map->size);
  if (new_bitmap (&map->access, map->clusters, e) == -1 ||
      new_bitmap (&map->copied, map->clusters, e) == -1 ||
      gather (segment, map, &table, e) == -1) {
    map_free (map);
    return -1;
  }
  if (unchanged (m, &table, map->info.id))
    return 1;
  map_free (map);
  return 0;
}

static int
make_map (const char *path, const char *name, struct map *map,
          struct error *e)
{
  struct segment segment = SEGMENT_INIT;
  int r = 0, tries;

  if (segment_look (&segment, path, e) == -1)
    return -1;
  for (tries = 0; r == 0 && tries < TRIES; ++tries)
    r = try_map (&segment, name, map, e);
  segment_close (&segment, false);
  if (r == 0)
    return error_set (e, EAGAIN, "%s: snapshots come and go too fast to look "
                      "at one; try again", path);
  return r == 1 ? 0 : -1;
}

/* One object of the list, as nbdinfo has it. */
static void
print_json_run (uint64_t offset, uint64_t length, enum map_type type,
                const char *name, bool last)
{
  struct json_object *o = json_object_new_object ();

  json_object_object_add (o, "offset", json_object_new_uint64 (offset));
  json_object_object_add (o, "length", json_object_new_uint64 (length));
  json_object_object_add (o, "type", json_object_new_int ((int) type));
  json_object_object_add (o, "description",
                          json_object_new_string (name));
  printf ("%s%s\n",
          json_object_to_json_string_ext (o, JSON_C_TO_STRING_SPACED),
          last ? "" : ",");
  json_object_put (o);
}

/* One by one: there may be millions. */
static void
print_list (const struct map *map, bool json)
{
  uint64_t c, end, offset, length;
  enum map_type type;

  if (json)
    puts ("[");
  for (c = 0; c < map->clusters; c = end) {
    type = map_run (map, c, &end);
    offset = c * map->cluster_size;
    length = min_u64 (end * map->cluster_size, map->size) - offset;
    if (json)
      print_json_run (offset, length, type, map->words->names[type],
                      end == map->clusters);
    else
      printf ("%10" PRIu64 "  %10" PRIu64 "  %3d  %s\n", offset, length,
              (int) type, map->words->names[type]);
  }
  if (json)
    puts ("]");
}

/* A map of what cannot be read is of use to those who want to know what
 * there was, but they should know.
 */
static void
warn_if_broken (const struct map *map)
{
  char state[256], text[FORMAT_TEXT_MAX];

  if (map->info.state != CBW_SNAPSHOT_BROKEN)
    return;
  fflush (stdout);
  entry_describe (&map->info, state, sizeof state);
  fprintf (stderr, "cbwctl: snapshot \"%s\" cannot be read; it is %s\n",
           format_text (map->info.name, text), state);
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  bool plain = false, json = false;
  struct map map;
  struct error e;
  int c;

  while ((c = next_option (&command_map, argc, argv, options)) != -1)
    switch (c) {
    case 'p': plain = true; break;
    case 'j': json = true; break;
    }
  if (plain && json)
    usage_error (&command_map, "choose one of --plain and --json");
  argv += first_argument (&command_map, argc, 2, 2,
                          "a segment and the name of a snapshot or A..B");
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      (delta_is_name (argv[1]) ? map_delta : make_map)
        (segment, argv[1], &map, &e) == -1)
    return report_error (&e);
  if (plain || json)
    print_list (&map, json);
  else
    map_print_picture (&map);
  warn_if_broken (&map);
  map_free (&map);
  return EXIT_DONE;
}

const struct command command_map = {
  .name = "map",
  .summary = "show which parts of the disk were copied or have changed",
  .help = help,
  .run = run,
};
