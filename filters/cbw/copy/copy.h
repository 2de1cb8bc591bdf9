/* SPDX-License-Identifier: BSD-3-Clause */

/* Copying old data from the source to a target, before a guest's write
 * reaches the source.
 *
 * Each cluster goes to the newest live snapshot that has it from the source
 * (chain.h): usually that is one copy for all.  Where a backup is the newest,
 * an older snapshot gets a copy of its own, as it does not look through the
 * backup's image.
 */

#ifndef CBW_COPY_H
#define CBW_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "copy/claims.h"
#include "copy/deadline.h"
#include "copy/transfer.h"
#include "snapshot/chain.h"

/* What a guest's change keeps claimed until it has ended; the claims cover
 * this many pieces at most.
 */
#define COPY_UNCHANGED_MAX 8

struct copier {
  struct claims claims;
  _Atomic (unsigned) guests;    /* guests' changes that copy, or wait to */
  _Atomic (unsigned) unchanged; /* claims of what guests do not change */
  _Atomic (uint64_t) *unchanged_shared; /* the same in the segment, for readers
                                         * that do not ask; or NULL */
  struct transfer_buffers buffers;
  struct deadline_pool deadline;
};

extern void copier_init (struct copier *c);

/* Keep a counter in the segment, which is 0, of claims of what is unchanged;
 * before guests are served.
 */
extern void copier_attach (struct copier *c, _Atomic (uint64_t) *unchanged);

/* As in threads.h, for copies that were given up and are still under way: the
 * snapshots and the source must stay until they have ended.
 */
extern void copier_stop (struct copier *c);
extern bool copier_join (struct copier *c, uint64_t until);
extern void copier_free (struct copier *c);

/* What copy_range is to do; and what it leaves, until copy_end. */
struct copy_job {
  const struct chain *chain;
  struct image *source;         /* the protected disk */
  uint64_t start, end;          /* clusters of the newest snapshot */

  /* Look for large holes in the source first, and do not read them: for
   * guest trims and zeroes, which may cover most of a disk.
   */
  bool sparse;

  /* What the guest is about to write at "offset", or NULL. */
  const unsigned char *data;
  uint64_t offset, count;

  /* How long the guest's write has waited for space already; a snapshot
   * with a longer cbw-full=stall makes copy_range return.
   */
  uint64_t stalled_ns;

  bool compare;                 /* may old data be left out that is "data"? */
  struct claim claims[COPY_UNCHANGED_MAX]; /* of what is unchanged */
  unsigned nr_claims;
};

enum copy_result {
  COPY_DONE,                    /* no cluster needs a copy any more */
  COPY_UNCHANGED,               /* but those which the guest does not change */
  COPY_STALL,                   /* the target is full: wait for space */
  COPY_FAILED,                  /* the guest's change must fail */
};

/* See to it that the clusters need no copy any more: no live snapshot has
 * them from the source.  A copy that fails breaks the snapshot that needed
 * it, or if its policy is break-guest-write, ends this: COPY_FAILED, and *err
 * is the errno.  Clusters copied before stay done.
 *
 * After COPY_STALL leave the gate, wait a little, and try again.
 * COPY_UNCHANGED: where "data" is what is there already nothing was copied.
 * Then the job has claims, and must stay where it is, until copy_end.
 *
 * Called inside the gate.
 */
extern enum copy_result copy_range (struct copier *c, struct copy_job *job,
                                    int *err);

/* The guest's change has ended, still inside the gate.  If it failed, the
 * source may hold anything where it was to be written: then what was left
 * out is copied now, from the job's data.  A snapshot for which that fails is
 * broken, whatever its policy.
 */
extern void copy_end (struct copier *c, struct copy_job *job, bool failed);

/* A reader has read [offset, offset+count) from the source.  While a guest
 * writes there what was there already, and its write might fail, the source
 * may hold anything: put what was there over it.  "at" is the buffer.
 */
extern void copy_overlay (struct copier *c, void *at, uint64_t offset,
                          uint64_t count);

/* Where in [offset, offset+count) does the first part begin in which such a
 * write is under way?  offset+count if there is none.
 */
extern uint64_t copy_first_uncertain (struct copier *c, uint64_t offset,
                                      uint64_t count);

#endif /* CBW_COPY_H */
