/* SPDX-License-Identifier: BSD-3-Clause */

/* Where the data of one snapshot is read from, as it was at one moment:
 * gathered in map.c, drawn in map-picture.c.
 */

#ifndef CBW_MAP_H
#define CBW_MAP_H

#include <stdint.h>

#include "segment/entry.h"
#include "utils/bitmap.h"

/* A cluster is one of these; the numbers are the "type" in listings. */
enum map_type {
  MAP_UNTOUCHED = 0,            /* read from the disk itself */
  MAP_COPIED = 1,               /* read from a target */
  MAP_INACCESSIBLE = 2,         /* not to be read at all */
  MAP_TYPES = 3,
};

struct map {
  struct snapshot_info info;
  uint32_t cluster_size;
  uint64_t clusters;
  struct bitmap access, copied; /* our own copies */
};

/* The type of cluster c, and where the run of that type ends. */
extern enum map_type map_run (const struct map *map, uint64_t c,
                              uint64_t *end);

/* What a type is called in listings. */
extern const char *map_type_name (enum map_type type);

/* A picture for the terminal, with a legend. */
extern void map_print_picture (const struct map *map);

#endif /* CBW_MAP_H */
