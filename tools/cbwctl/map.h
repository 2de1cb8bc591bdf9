/* SPDX-License-Identifier: BSD-3-Clause */

/* What is said of each cluster of a disk, as it was at one moment: where a
 * snapshot reads it from, gathered in map.c; or whether it is in a delta,
 * gathered in map-delta.c.  Lists are printed in map.c, and pictures in
 * map-picture.c.
 */

#ifndef CBW_MAP_H
#define CBW_MAP_H

#include <stdint.h>

#include "segment/entry.h"
#include "utils/bitmap.h"

/* A cluster is one of these; the numbers are the "type" in listings. */
enum map_type {
  MAP_UNTOUCHED = 0,            /* read from the disk itself; of a delta: not
                                 * in it */
  MAP_COPIED = 1,               /* read from a target; of a delta: in it */
  MAP_INACCESSIBLE = 2,         /* not to be read at all */
  MAP_TYPES = 3,
};

/* What the types are called. */
struct map_words {
  const char *names[MAP_TYPES]; /* in listings */
  const char *legend[MAP_TYPES];
  const char *partly;           /* some of it copied */
};

/* Of a delta the name is "A..B", and "size" that of the disk at its end. */
#define MAP_NAME_MAX (2 * CBW_NAME_MAX + 2)

struct map {
  char name[MAP_NAME_MAX];
  const struct map_words *words;
  struct snapshot_info info;    /* of a delta: of the snapshot at its end */
  uint64_t size;                /* bytes */
  uint32_t cluster_size;
  uint64_t clusters;
  struct bitmap access;         /* our own copies; without words: all of it */
  struct bitmap copied;
};

/* The type of cluster c, and where the run of that type ends. */
extern enum map_type map_run (const struct map *map, uint64_t c,
                              uint64_t *end);

/* Read the delta of that name (delta_is_name) from the segment at "path", as
 * delta_read does.  The caller frees the words of map->copied.
 */
extern int map_delta (const char *path, const char *name, struct map *map,
                      struct error *e);

/* A picture for the terminal, with a legend. */
extern void map_print_picture (const struct map *map);

#endif /* CBW_MAP_H */
