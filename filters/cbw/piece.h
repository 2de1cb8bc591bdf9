/* SPDX-License-Identifier: BSD-3-Clause */

/* Copying one piece: a few clusters, from the source to the target.  Who
 * calls has claimed them (copy.c), so nobody changes them in the source
 * and nobody else copies them.
 */

#ifndef CBW_PIECE_H
#define CBW_PIECE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "snapshot.h"
#include "source.h"

/* A piece is at most this many bytes, or one cluster if that is more: a
 * neighbour waits no longer than for one piece, and the piece is still in
 * the CPU's cache when it is written.
 */
#define PIECE_SIZE (256 * 1024)

/* How many clusters that is. */
extern uint64_t piece_clusters (const struct snapshot *snap);

/* Buffers of one piece, kept for the next. */
struct piece_pool {
  pthread_mutex_t lock;
  struct piece_buffer *free;    /* last used first */
};

extern void piece_pool_init (struct piece_pool *pool);
extern void piece_pool_destroy (struct piece_pool *pool);

/* Copy clusters [start, end) of snap and set their done bits.  If "abort"
 * is not NULL and says so when the old data has been read, nothing more is
 * done.  0, or -1 with the error set and no done bit set.
 */
extern int piece_copy (struct piece_pool *pool, const struct snapshot *snap,
                       const struct source *source, uint64_t start,
                       uint64_t end, const _Atomic (bool) *abort,
                       struct error *e);

/* Clusters [start, end) of the source are a hole, so there is nothing to
 * copy: set their done bits.
 */
extern void piece_skip (const struct snapshot *snap, uint64_t start,
                        uint64_t end);

#endif /* CBW_PIECE_H */
