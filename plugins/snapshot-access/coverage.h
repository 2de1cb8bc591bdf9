/* SPDX-License-Identifier: BSD-3-Clause */

/* Which bytes of a snapshot one client has read, so that each cluster can
 * be discarded when all of it has been; and which of these clusters are to be
 * discarded still, as a discard costs much more than the read of a cluster.
 *
 * Both are kept as disjoint intervals in order; a reader in one pass, with
 * many requests in flight, needs only as many as there are gaps.
 */

#ifndef CBW_COVERAGE_H
#define CBW_COVERAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
  uint64_t start, end;
};

struct interval_set {
  struct interval *intervals;   /* in order, with gaps between */
  size_t nr, room;
};

struct coverage {
  uint64_t size;                /* of the snapshot, bytes */
  uint32_t cluster_size;
  uint64_t batch;
  pthread_mutex_t lock;         /* for the rest */
  struct interval_set read;
  struct interval_set due;      /* whole clusters, to be discarded */
};

/* "batch": discard so many bytes at once, if there are so many. */
extern void coverage_init (struct coverage *c, uint64_t size,
                           uint32_t cluster_size, uint64_t batch);
extern void coverage_destroy (struct coverage *c);

/* Bytes [start, end) have been read.  [*from, *to) is what the caller is to
 * discard now; perhaps nothing.  Returns -1 (errno ENOMEM) if the read cannot
 * be noted.
 */
extern int coverage_add (struct coverage *c, uint64_t start, uint64_t end,
                         uint64_t *from, uint64_t *to);

/* The client is about to go.  Returns false if nothing is left to discard, else
 * [*from, *to) is.
 */
extern bool coverage_rest (struct coverage *c, uint64_t *from, uint64_t *to);

#endif /* CBW_COVERAGE_H */
