/* SPDX-License-Identifier: BSD-3-Clause */

/* One piece: a few clusters, on their way from the source to the target.
 * The caller holds a claim on them (claims.h), so nothing changes them in the
 * source, and no other thread copies them.
 */

#ifndef CBW_PIECE_H
#define CBW_PIECE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

/* A piece is at most this many bytes, or one cluster if that is more: a
 * neighbour waits no longer than for one piece, and the piece is still in
 * the CPU's cache when it is written.
 */
#define PIECE_SIZE (512 * 1024)

/* How many clusters that is. */
extern uint64_t piece_clusters (const struct snapshot *snap);

/* Buffers of one piece, kept for the next. */
struct piece_pool {
  pthread_mutex_t lock;
  struct piece_buffer *free;    /* last used first */
};

extern void piece_pool_init (struct piece_pool *pool);
extern void piece_pool_destroy (struct piece_pool *pool);

/* Read the old data of clusters [start, end) of snap, a piece at most, into
 * a buffer that goes back by piece_put.  NULL with the error set.
 */
extern void *piece_read (struct piece_pool *pool, const struct snapshot *snap,
                         struct image *source, uint64_t start,
                         uint64_t end, struct error *e);
extern void piece_put (struct piece_pool *pool, void *buf);

/* Write that to "target": the snapshot's store, or its target where no guest
 * waits, so that it has no business in the write-back buffer.  0, and *held is
 * how many bytes the target holds of it, which go to piece_done; or -1 with the
 * error set.
 */
extern int piece_write (const struct snapshot *snap, struct image *target,
                        const void *buf, uint64_t start, uint64_t end,
                        uint64_t *held, struct error *e);

/* The same for what is known to read as zeroes; it may be longer than a
 * piece, and the target is there.  0, or -1 with the error set.
 */
extern int piece_zero (const struct snapshot *snap, uint64_t start,
                       uint64_t end, struct error *e);

/* They are in the target: set their done bits.  The caller holds a claim on
 * them, else a bit could be set under a reader which has found a newer
 * snapshot to be the holder.
 */
extern void piece_done (const struct snapshot *snap, uint64_t start,
                        uint64_t end, uint64_t held);

#endif /* CBW_PIECE_H */
