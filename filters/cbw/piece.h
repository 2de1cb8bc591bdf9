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

/* Copy clusters [start, end) of snap to its target.  If "abort" is not
 * NULL and says so when the old data has been read, nothing more is done.
 * A "hole", which is known to read as zeroes, is not read, and may be
 * longer than a piece.
 * 0, and *held is how many bytes the target holds of it, which go to
 * piece_done; or -1 with the error set.
 */
extern int piece_copy (struct piece_pool *pool, const struct snapshot *snap,
                       const struct source *source, uint64_t start,
                       uint64_t end, bool hole, const _Atomic (bool) *abort,
                       uint64_t *held, struct error *e);

/* The second half of it: write the old data in buf, that of clusters
 * [start, end), to the target itself: no guest waits for it, so it has no
 * business in the write-back buffer.
 */
extern int piece_write (const struct snapshot *snap, const void *buf,
                        uint64_t start, uint64_t end, uint64_t *held,
                        struct error *e);

/* They are in the target: set their done bits.  Only for who has them
 * claimed, else a bit could be set under a reader which has found a newer
 * snapshot to be the holder.
 */
extern void piece_done (const struct snapshot *snap, uint64_t start,
                        uint64_t end, uint64_t held);

#endif /* CBW_PIECE_H */
