/* SPDX-License-Identifier: BSD-3-Clause */

/* Copying old data from the source to the target of the newest snapshot,
 * before a guest's write reaches the source.
 *
 * A thread that copies puts the clusters it has claimed on the in-flight
 * list.  Claims never overlap, so a cluster is copied once; who needs a
 * cluster that another is copying waits for that one copy, then finds it
 * done.  A thread has one claim at a time and waits for others only while
 * it has none: no cycle, no deadlock.
 *
 * The life of a cluster, under which lock, and who may touch it:
 *
 *   not done ----------> in flight -----------------> done
 *     |    claim (lock)             set bit (release), then
 *     |                             take off the list (lock)
 *     `--- a failed copy goes back to "not done", and breaks the snapshot
 */

#ifndef CBW_COPY_H
#define CBW_COPY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "chain.h"
#include "source.h"

struct copy_claim;
struct copy_buffer;

struct copier {
  pthread_mutex_t lock;         /* for all of the below */
  struct copy_claim *claims;    /* in flight */
  struct copy_buffer *buffers;  /* free ones, last used first */
};

extern void copier_init (struct copier *c);
extern void copier_destroy (struct copier *c);

/* See to it that clusters [start, end) of the newest snapshot need no copy
 * any more: no live snapshot has them from the source.  With "sparse",
 * large holes in the source are looked for first, and not read: for guest
 * trims and zeroes, which may cover most of a disk.
 *
 * A copy that fails breaks the snapshots that needed it.  Called inside
 * the gate.
 */
extern void copy_range (struct copier *c, const struct chain *chain,
                        const struct source *source,
                        uint64_t start, uint64_t end, bool sparse);

#endif /* CBW_COPY_H */
