/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl map of a delta: which clusters have changed from a point to a
 * snapshot.
 */

#include <config.h>

#include <stdio.h>

#include "map.h"
#include "segment/delta.h"
#include "segment/segment.h"

static const struct map_words delta_words = {
  .names = {
    [MAP_UNTOUCHED] = "unchanged",
    [MAP_COPIED] = "changed",
  },
  .legend = {
    [MAP_UNTOUCHED] = "unchanged",
    [MAP_COPIED] = "changed",
  },
  .partly = "partly changed",
};

int
map_delta (const char *path, const char *name, struct map *map,
           struct error *e)
{
  struct segment segment = SEGMENT_INIT;
  struct delta d;
  int r;

  if (segment_look (&segment, path, e) == -1)
    return -1;
  r = delta_read (&segment, name, &d, e);
  segment_close (&segment, false);
  if (r == -1)
    return -1;
  *map = (struct map) {
    .words = &delta_words,
    .info = d.to,
    .size = d.size,
    .cluster_size = d.cluster_size,
    .clusters = d.bits.nbits,
    .copied = d.bits,           /* takes them over */
  };
  snprintf (map->name, sizeof map->name, "%s..%s", d.from.name, d.to.name);
  return 0;
}
