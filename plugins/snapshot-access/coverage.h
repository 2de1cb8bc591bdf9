/* SPDX-License-Identifier: BSD-3-Clause */

/* Which bytes of a snapshot one client has read, so that each cluster can
 * be discarded when all of it has been.
 *
 * Kept as disjoint intervals in order; a reader in one pass, with many
 * requests in flight, needs only as many as there are gaps.
 */

#ifndef CBW_COVERAGE_H
#define CBW_COVERAGE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
  uint64_t start, end;
};

struct coverage {
  uint64_t size;                /* of the snapshot, bytes */
  uint32_t cluster_size;
  pthread_mutex_t lock;         /* for the rest */
  struct interval *intervals;
  size_t nr, room;
};

extern void coverage_init (struct coverage *c, uint64_t size,
                           uint32_t cluster_size);
extern void coverage_destroy (struct coverage *c);

/* Bytes [start, end) have been read.  [*from, *to) are the clusters, in
 * bytes, which this read completed, or completed before; perhaps none.
 * Returns -1 (errno ENOMEM) if it cannot be noted.
 */
extern int coverage_add (struct coverage *c, uint64_t start, uint64_t end,
                         uint64_t *from, uint64_t *to);

#endif /* CBW_COVERAGE_H */
