/* SPDX-License-Identifier: BSD-3-Clause */

/* What has changed between two points: a bitmap of clusters, read from the
 * segment by those who only look at it.
 *
 * The bitmaps of the points before a snapshot do not change any more, so a
 * delta up to a snapshot is the same for ever; what is read here is a copy,
 * and stays right when the points are dropped.  docs/correctness.md, section
 * 26, has the argument.
 */

#ifndef CBW_DELTA_H
#define CBW_DELTA_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/entry.h"
#include "segment/point.h"
#include "segment/segment.h"
#include "utils/bitmap.h"
#include "utils/error.h"

struct delta {
  struct point from;
  struct snapshot_info to;      /* index is CBW_NR_SNAPSHOTS: up to now */
  uint32_t cluster_size;
  uint64_t size;                /* of the disk at its end, bytes */
  struct bitmap bits;           /* of "size"; the words are owned */
};

#define DELTA_INIT { .bits.words = NULL }

/* Is it the name of a delta, "A..B" or "A.."?  (No name of a snapshot has
 * ".." in it.)
 */
extern bool delta_is_name (const char *name);

/* Read the delta of that name: from point A to the live snapshot B, or to the
 * newest one.  0; or -1 with the error set, which says it in full: EINVAL (it
 * is no such name, or A is newer than B), ENOENT (there is no point A, or no
 * snapshot B), ESTALE (A is invalid), EAGAIN (the points change all the
 * time), or another.
 */
extern int delta_read (const struct segment *s, const char *name,
                       struct delta *d, struct error *e);

/* Read what has changed from the point on until now, on a disk of "size" bytes;
 * whether or not the point is valid.  Changes that are made meanwhile may be
 * in it, or not.
 */
extern int delta_read_now (const struct segment *s, const struct point *from,
                           uint64_t size, struct delta *d, struct error *e);

/* Its size in bytes: of the clusters that are in it. */
extern uint64_t delta_bytes (const struct delta *d);

/* The part of [offset, end) from offset on that is wholly in the delta, or not
 * at all: returns which, and *run is its end.  offset < end <= d->size.
 */
extern bool delta_run (const struct delta *d, uint64_t offset, uint64_t end,
                       uint64_t *run);

/* Free the words.  Safe on DELTA_INIT. */
extern void delta_free (struct delta *d);

#endif /* CBW_DELTA_H */
