/* SPDX-License-Identifier: BSD-3-Clause */

/* What has changed between two points: a bitmap of clusters, read from the
 * segment by those who only look at it.
 *
 * Guests mark changes in the newest point's bitmap alone, so they add nothing to
 * a delta up to a snapshot.  Only the server does, for what the source has lost
 * before the snapshot's request was answered.  What is read here is a copy, and
 * stays right when the points are dropped.  docs/correctness.md, sections 26
 * and 27, have the argument.
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

/* Is it meant to be the name of a delta, "A..B" or "A.."?  No name of a
 * snapshot has ".." in it (entry_check_name).
 */
extern bool delta_is_name (const char *name);

/* Find the two ends of the delta of that name: point A, and the live snapshot
 * B, or the newest one.  d->bits has no words afterwards.  0; or -1 with the
 * error set, which says it in full: EINVAL (it is no such name, or could be
 * two, or A is newer than B), ENOENT (there is no point A, or no snapshot B),
 * EIO (B is broken), EAGAIN (B is being made) or ESTALE (A is invalid, or
 * changes are not marked).
 */
extern int delta_find (const struct segment *s, const char *name,
                       struct delta *d, struct error *e);

/* Read the delta whose ends delta_find has found.  0, or -1 with the error
 * set, and d->bits without words: ENOENT or ESTALE (A was dropped or became
 * invalid meanwhile), EAGAIN (the points change all the time), EBADMSG (the
 * segment is damaged), or another.
 */
extern int delta_load (const struct segment *s, struct delta *d,
                       struct error *e);

/* Do both: delta_find, then delta_load. */
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
