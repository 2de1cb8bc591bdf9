/* SPDX-License-Identifier: BSD-3-Clause */

/* What the files of this module share: the image that stands before a target,
 * and the threads that bring its cells there.  Others include writeback.h.
 */

#ifndef CBW_WRITEBACK_PRIVATE_H
#define CBW_WRITEBACK_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "image/image.h"
#include "snapshot/snapshot.h"
#include "utils/rounding.h"
#include "writeback/cells.h"
#include "writeback/writeback.h"

#define DRAIN_THREADS 8

/* How many of them may be busy for one image.  A file takes one write at a
 * time anyway; and some are left for others, should a server hang.
 */
#define DRAIN_THREADS_FILE 2
#define DRAIN_THREADS_NBD 6

/* What stands before the target of a snapshot, as its store.  It holds a
 * reference to the snapshot as long as the buffer has cells of it: so the
 * target stays open until the last of them is written, or of no use.
 */
struct writeback_image {
  struct image image;           /* first */
  struct writeback *writeback;
  struct snapshot *snap;
  _Atomic (uint32_t) cells;     /* changed under the lock */

  struct writeback_image *next; /* the rest under the lock */
  struct cell_queue queue;
  unsigned threads, threads_max; /* that write to it */
};

/* A new image before the target of "snap", without cells; NULL on error
 * (ENOMEM).
 */
extern struct writeback_image *writeback_image_new (struct writeback *w,
                                                    struct snapshot *snap);

/* A thread that brings cells to their targets; opaque is the writeback. */
extern void drain_thread (void *opaque);

/* How many bytes of the disk a cluster has. */
static inline uint64_t
writeback_bytes (const struct writeback_image *wi, uint64_t cluster)
{
  return min_u64 (wi->snap->view.cluster_size,
                  wi->snap->view.size - cluster * wi->snap->view.cluster_size);
}

/* It is the last image whose turn it is, and was none of them.  The lock is
 * held.
 */
extern void writeback_append (struct writeback_image *wi);

/* The image has n cells more; the lock is held.  Before the done bits of what
 * is in them are set.
 */
extern void writeback_more (struct writeback_image *wi, uint32_t n);

/* The image has n cells less, as these are in the target, or of no use to
 * anybody; the lock is held.  Returns the snapshot if its
 * reference is to be given back, once the lock is not held any more.
 */
extern struct snapshot *writeback_less (struct writeback_image *wi,
                                        uint32_t n);

#endif /* CBW_WRITEBACK_PRIVATE_H */
