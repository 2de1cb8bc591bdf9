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
 *     `--- a failed copy goes back to "not done", and so does one of what
 *          the guest does not change
 */

#ifndef CBW_COPY_H
#define CBW_COPY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "chain.h"
#include "piece.h"
#include "source.h"
#include "timed.h"

/* Clusters [need.start, need.end) are being copied.  Who is not the owner
 * looks at it under the copier's lock.
 */
struct copy_claim {
  struct copy_claim *next;
  uint64_t number;              /* of all claims so far */
  struct chain_need need;
  pthread_cond_t released;
};

struct copier {
  pthread_mutex_t lock;
  struct copy_claim *claims;    /* in flight, under the lock */
  uint64_t nr_claims;           /* how many there have been; the same */
  _Atomic (unsigned) guests;    /* guests' changes that copy, or wait to */
  struct piece_pool buffers;
  struct timed_pool timed;
};

extern void copier_init (struct copier *c);

/* How long the end of the server waits for what is stuck. */
extern uint64_t copier_patience_ns (void);

/* Wait up to timeout_ns for copies that were given up.  Returns false if one
 * is still under way, so that nothing of snapshots and source may be freed.
 */
extern bool copier_stop (struct copier *c, uint64_t timeout_ns);

/* After that, if it returned true. */
extern void copier_destroy (struct copier *c);

/* What copy_range is to do. */
struct copy_job {
  const struct chain *chain;
  const struct source *source;
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
};

#define COPY_STALL -1
#define COPY_SAME -2

/* See to it that the clusters need no copy any more: no live snapshot has
 * them from the source.  A copy that fails breaks the snapshot that needed
 * it, or if its policy is break-guest-write, ends this with an errno: the
 * guest's write must then fail with it.  Clusters copied before stay done.
 *
 * Returns 0; an errno; COPY_STALL if the target is full: leave the gate,
 * wait a little, and try again; or COPY_SAME: as 0, but where "data" is
 * what is there already nothing was copied, and clusters still need it.
 * Called inside the gate.
 */
extern int copy_range (struct copier *c, const struct copy_job *job);

/* Wait until no copy of clusters [start, end) is in flight that is now:
 * not for those that begin meanwhile, so that it ends.
 */
extern void copy_wait (struct copier *c, uint64_t start, uint64_t end);

/* For a backup's fill: claim the first run of [start, end) whose bits are
 * clear in "settled" and which nobody has claimed.  Returns false if there
 * is none; waits for nobody.
 */
extern bool copy_claim_free (struct copier *c, const struct bitmap *settled,
                             uint64_t start, uint64_t end,
                             struct copy_claim *mine);

/* Give back what of the claim lies behind "end", or all of it. */
extern void copy_claim_shrink (struct copier *c, struct copy_claim *mine,
                               uint64_t end);
extern void copy_claim_release (struct copier *c, struct copy_claim *mine);

#endif /* CBW_COPY_H */
