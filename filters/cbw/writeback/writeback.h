/* SPDX-License-Identifier: BSD-3-Clause */

/* Write-back: a guest's write waits only until its old data is in a buffer
 * in the segment, and threads bring it to the target later (drain.c).
 *
 * An image stands before the target for that: what is written to it goes
 * to free cells of the buffer, and what is read comes from there as long as
 * it is there.  So to the engine old data is in the target as soon as a
 * write returns, and it stays so if this process is killed: the next
 * one finds the cells in the segment.  Where no cell is free, writes go to
 * the target at once, as if there were no buffer.
 *
 * docs/correctness.md has the argument (section 16).
 */

#ifndef CBW_WRITEBACK_H
#define CBW_WRITEBACK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "snapshot/chain.h"
#include "snapshot/snapshot.h"
#include "utils/error.h"
#include "utils/threads.h"
#include "writeback/cells.h"

struct writeback_image;

struct writeback {
  struct chain_head *chain;
  bool accept;                  /* new data, not only what was there */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t work;          /* the queue has a cell, or stop */
  pthread_cond_t drained;       /* an image has none any more, or stop */
  struct cells cells;
  struct writeback_image *images; /* those with cells, whose turn it is first */
  struct thread_group threads;  /* started under the lock */
  unsigned idle;                /* of them */
  bool stop;
};

extern void writeback_init (struct writeback *w, struct chain_head *chain);

/* Use the buffer of this segment, if it has one.  If "accept" is false only
 * to bring to the targets what an earlier server left in it.  -1 (ENOMEM) on
 * error.
 */
extern int writeback_attach (struct writeback *w, const struct cbw_map *map,
                             bool accept, struct error *e);

/* Set the store of a snapshot whose target is set: an image before the target,
 * or the target itself if there is no buffer.  Of a snapshot that an earlier
 * server made, "adopt" what the buffer holds.  The snapshot is not in use yet.
 * -1 (ENOMEM) on error, and the store is the target.
 */
extern int writeback_set_store (struct writeback *w, struct snapshot *snap,
                                bool adopt, struct error *e);

/* All snapshots of an earlier server are in the chain, no other has been
 * made, and the segment may be changed: free what belongs to none of them,
 * begin to write the rest.  -1 with the error set if there is no thread for
 * it.
 */
extern int writeback_start (struct writeback *w, struct error *e);

/* As in threads.h.  From writeback_stop on nothing is put into the buffer
 * nor, but for what is under way, taken out: the cells stay in the segment,
 * also when the index is freed.
 */
extern void writeback_stop (struct writeback *w);
extern bool writeback_join (struct writeback *w, uint64_t until);
extern void writeback_free (struct writeback *w);

#endif /* CBW_WRITEBACK_H */
