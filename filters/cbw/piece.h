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

/* Looks at the old data of a piece, len bytes that are at "offset" on the
 * disk, when it has been read: 0 if it is to be written to the target, else
 * what piece_copy returns, with the error set if that is -1.
 */
struct piece_look {
  int (*look) (void *opaque, const unsigned char *old, uint64_t len,
               uint64_t offset, struct error *e);
  void *opaque;
};

/* Copy clusters [start, end) of snap to its target.  "look" may be NULL.
 * A "hole", which is known to read as zeroes, is not read nor looked at,
 * and may be longer than a piece.
 * 0, and *held is how many bytes the target holds of it, which go to
 * piece_done; -1 with the error set; or what "look" returned.
 */
extern int piece_copy (struct piece_pool *pool, const struct snapshot *snap,
                       const struct source *source, uint64_t start,
                       uint64_t end, bool hole,
                       const struct piece_look *look, uint64_t *held,
                       struct error *e);

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
