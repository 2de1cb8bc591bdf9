/* SPDX-License-Identifier: BSD-3-Clause */

/* One transfer: clusters of a snapshot are read from the image that holds
 * them, looked at, and written to an image of the snapshot's.  Guests' copies,
 * copies with a deadline, backups and the copies of suspects all do that here.
 *
 *   from                           to
 *   the disk, for a guest's copy   the snapshot's store
 *   whoever holds it, for a fill   the backup's target: no guest waits, so it
 *                                  has no business in the write-back buffer
 *
 * The caller holds a claim on the clusters (claims.h), so nothing changes them
 * in the source, and no other thread copies them; or it is a worker whose
 * caller does (deadline.h).
 */

#ifndef CBW_TRANSFER_H
#define CBW_TRANSFER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "copy/claims.h"
#include "image/image.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"

/* A piece is what is transferred through a buffer in one go: at most this many
 * bytes, or one cluster if that is more.  A neighbour waits no longer than for
 * one piece, and the piece is still in the CPU's cache when it is written.
 */
#define PIECE_SIZE (512 * 1024)

/* How many clusters that is. */
extern uint64_t piece_clusters (const struct snapshot *snap);

/* Buffers of one piece, kept for the next. */
struct transfer_buffers {
  pthread_mutex_t lock;
  struct transfer_buffer *free; /* last used first */
};

extern void transfer_buffers_init (struct transfer_buffers *buffers);
extern void transfer_buffers_destroy (struct transfer_buffers *buffers);

struct transfer;

/* Called between read and write, with the old data, which it may change: is it
 * to be written?
 */
typedef bool transfer_decide (void *of, const struct transfer *t,
                              unsigned char *old);

struct transfer {
  struct snapshot *snap;        /* for which it is made */
  uint64_t start, end;          /* clusters, a piece at most */
  struct image *from, *to;

  /* If one is set nothing is read, and there may be more than a piece: they
   * are known to be zeroes, or this.
   */
  bool hole;
  const unsigned char *known;

  transfer_decide *decide;      /* NULL: all is written */
  void *of;                     /* its argument */

  uint64_t held;                /* set: how many bytes of it "to" holds */
};

enum transfer_result {
  TRANSFER_DONE,                /* it is in "to": for transfer_set_done */
  TRANSFER_LEFT_OUT,            /* "decide" said so, and nothing was written */
  TRANSFER_NO_MEMORY,           /* for a buffer; the error is set, as in all
                                 * that follow */
  TRANSFER_READ_FAILED,
  TRANSFER_WRITE_FAILED,        /* "to" may have any part of it */
  TRANSFER_GIVEN_UP,            /* the deadline came first (deadline.h) */
};

extern enum transfer_result transfer_run (struct transfer_buffers *buffers,
                                          struct transfer *t,
                                          struct error *e);

/* The offset in bytes, and how many bytes it is. */
static inline uint64_t
transfer_offset (const struct transfer *t)
{
  return t->start * t->snap->view.cluster_size;
}

static inline uint64_t
transfer_bytes (const struct transfer *t)
{
  return snapshot_bytes (t->snap, t->start, t->end);
}

/* The clusters are in the target: set their done bits.  The caller holds a
 * claim on them, else a bit could be set under a reader which has found a
 * newer snapshot to be the holder.  "mine" is NULL only if nobody else knows
 * of the snapshot yet.
 */
extern void transfer_set_done (const struct transfer *t,
                               const struct claim *mine);

#endif /* CBW_TRANSFER_H */
