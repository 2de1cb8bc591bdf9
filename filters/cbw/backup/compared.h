/* SPDX-License-Identifier: BSD-3-Clause */

/* Clusters as the disk and as a target have them, for backups that write only
 * what differs.
 */

#ifndef CBW_COMPARED_H
#define CBW_COMPARED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "copy/transfer.h"
#include "image/image.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

struct compared {
  const struct snapshot *snap;
  uint64_t start;               /* cluster */
  unsigned char *disk, *target; /* owned */
};

/* Read clusters [start, end), a piece at most, from the image that holds them
 * and from the snapshot's target.  Returns as transfer_run.
 */
extern enum transfer_result compared_read (struct compared *b,
                                           const struct snapshot *snap,
                                           struct image *from, uint64_t start,
                                           uint64_t end, struct error *e);

/* Do both images say that all of the clusters are zeroes?  A hint; false if that
 * is not known.
 */
extern bool compared_are_zeroes (const struct snapshot *snap,
                                 struct image *from, uint64_t start,
                                 uint64_t end);

/* The data of a cluster of those, and what follows it, as the disk has it. */
static inline const unsigned char *
compared_data (const struct compared *b, uint64_t cluster)
{
  return b->disk + (cluster - b->start) * b->snap->view.cluster_size;
}

/* Is a cluster of those the same in both? */
static inline bool
compared_is_same (const struct compared *b, uint64_t cluster)
{
  const uint64_t at = (cluster - b->start) * b->snap->view.cluster_size;

  return memcmp (b->disk + at, b->target + at,
                 snapshot_bytes (b->snap, cluster, cluster + 1)) == 0;
}

extern void compared_free (struct compared *b);

#endif /* CBW_COMPARED_H */
