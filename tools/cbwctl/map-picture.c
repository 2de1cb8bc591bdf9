/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl map: the map as a picture, in rows of characters. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "map.h"
#include "term.h"
#include "utils/rounding.h"

#define LABEL_COLUMNS 11        /* the offset of each row */
#define MAX_ROWS 16
#define MIN_COLUMNS 16

/* What a cell of the picture shows. */
enum look {
  LOOK_UNTOUCHED,
  LOOK_PARTLY,                  /* some of it copied */
  LOOK_COPIED,
  LOOK_INACCESSIBLE,            /* some of it; most interesting */
  LOOKS,
};

static const char *const ascii[LOOKS] = { ".", "+", "#", "x" };
static const char *const blocks[LOOKS] = {
  "\xe2\x96\x91", "\xe2\x96\x92", "\xe2\x96\x88", "\xc3\x97"
};
static const char *const colours[LOOKS] = {
  "\033[32m", "\033[33m", "\033[1;33m", "\033[31m"
};

struct picture {
  const struct map *map;
  const char *const *glyphs;
  bool colour;
  unsigned columns;
  uint64_t per_cell;            /* clusters */
  uint64_t count[MAP_TYPES];    /* clusters of each type */
};

static void
print_cell (const struct picture *p, enum look look, enum look *previous)
{
  if (p->colour && look != *previous)
    fputs (colours[look], stdout);
  *previous = look;
  fputs (p->glyphs[look], stdout);
}

/* What the clusters [c, end) look like together. */
static enum look
look_at (struct picture *p, uint64_t c, uint64_t end)
{
  uint64_t count[MAP_TYPES] = { 0 }, next;
  const uint64_t start = c;
  enum map_type type;

  for (; c < end; c = next) {
    type = map_run (p->map, c, &next);
    next = min_u64 (next, end);
    count[type] += next - c;
    p->count[type] += next - c;
  }
  if (count[MAP_INACCESSIBLE])
    return LOOK_INACCESSIBLE;
  if (count[MAP_COPIED] == end - start)
    return LOOK_COPIED;
  return count[MAP_COPIED] ? LOOK_PARTLY : LOOK_UNTOUCHED;
}

static void
print_rows (struct picture *p)
{
  const struct map *map = p->map;
  enum look previous;
  char size[FORMAT_MAX];
  uint64_t c, end;
  unsigned i;

  for (c = 0; c < map->clusters;) {
    printf ("%*s ", LABEL_COLUMNS - 1,
            format_size (c * map->cluster_size, size));
    previous = LOOKS;
    for (i = 0; i < p->columns && c < map->clusters; ++i, c = end) {
      end = min_u64 (c + p->per_cell, map->clusters);
      print_cell (p, look_at (p, c, end), &previous);
    }
    puts (p->colour ? "\033[0m" : "");
  }
}

static void
print_legend_line (const struct picture *p, enum look look,
                   enum map_type type)
{
  char size[FORMAT_MAX], percent[FORMAT_MAX];
  enum look previous = LOOKS;

  fputs ("  ", stdout);
  print_cell (p, look, &previous);
  printf ("%s %s", p->colour ? "\033[0m" : "", type < MAP_TYPES ?
          p->map->words->legend[type] : p->map->words->partly);
  if (type < MAP_TYPES)
    printf (": %" PRIu64 " clusters, %s (%s)", p->count[type],
            format_size (min_u64 (p->count[type] * p->map->cluster_size,
                                  p->map->size), size),
            format_percent (p->count[type], p->map->clusters, percent));
  puts ("");
}

static void
print_legend (const struct picture *p)
{
  char size[FORMAT_MAX];

  printf ("\nEach character is %s%" PRIu64 " cluster%s, %s:\n",
          p->per_cell > 1 ? "up to " : "", p->per_cell,
          p->per_cell > 1 ? "s" : "",
          format_size (p->per_cell * p->map->cluster_size, size));
  print_legend_line (p, LOOK_COPIED, MAP_COPIED);
  if (p->per_cell > 1)
    print_legend_line (p, LOOK_PARTLY, MAP_TYPES);
  print_legend_line (p, LOOK_UNTOUCHED, MAP_UNTOUCHED);
  if (p->count[MAP_INACCESSIBLE])
    print_legend_line (p, LOOK_INACCESSIBLE, MAP_INACCESSIBLE);
}

void
map_print_picture (const struct map *map)
{
  const unsigned columns = term_columns ();
  struct picture p = {
    .map = map,
    .glyphs = term_utf8 () ? blocks : ascii,
    .colour = term_colour (),
    .columns = columns > LABEL_COLUMNS + MIN_COLUMNS ?
      columns - LABEL_COLUMNS : MIN_COLUMNS,
  };
  const uint64_t cells = (uint64_t) p.columns * MAX_ROWS;
  char size[FORMAT_MAX], text[FORMAT_TEXT_MAX];

  p.per_cell = max_u64 (map->clusters / cells + (map->clusters % cells != 0),
                        1);
  printf ("%s: %s in %" PRIu64 " clusters\n\n",
          format_text (map->name, text),
          format_size (map->size, size), map->clusters);
  print_rows (&p);
  print_legend (&p);
}
