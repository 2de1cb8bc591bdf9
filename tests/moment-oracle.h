/* SPDX-License-Identifier: BSD-3-Clause */

/* Moments in the history of the model's disk, as points stand for them.
 *
 * A moment has a copy of the disk, and how often the guest had changed each
 * cluster by then: what has not been changed between two moments must not be
 * in a delta between them.  One thread uses this.
 */

#ifndef CBW_MOMENT_ORACLE_H
#define CBW_MOMENT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/point.h"

struct moment {
  uint64_t id;                  /* of the point; 0: there is none */
  unsigned char *data;          /* the disk [model.size] */
  unsigned char *other;         /* NULL, or each byte is that of data or of
                                 * this: it lies among changes */
  uint32_t *least, *most;       /* changes of each cluster by then */
};

/* The guest has changed, or may have changed, a part of the disk. */
extern void moment_count (uint64_t offset, uint64_t count);

/* The point "id" was made now, when the disk was "data". */
extern void moment_new (struct moment *m, uint64_t id,
                        const unsigned char *data);

/* It was made at any time since moment_new; with "unknown", nobody knows what
 * the disk was but that each byte was as then or is as now.
 */
extern void moment_passed (struct moment *m, bool unknown);

/* Forget it.  Safe on an empty one. */
extern void moment_free (struct moment *m);

/* The point of the moment, from the segment; false if there is none, or it is
 * being dropped.
 */
extern bool moment_point (const struct moment *m, struct point *p);

/* Is byte i the same at moment "a" as "byte"? */
extern bool moment_has (const struct moment *a, uint64_t i,
                        unsigned char byte);

/* May bytes [offset, end) be in a delta that begins at "a" and ends when the
 * clusters had been changed that often?  Only if each cluster was changed.
 */
extern bool moment_changed (const struct moment *a, const uint32_t *then,
                            uint64_t offset, uint64_t end);

/* How often each cluster has been changed up to now. */
extern const uint32_t *moment_now (void);

#endif /* CBW_MOMENT_ORACLE_H */
