/* SPDX-License-Identifier: BSD-3-Clause */

/* The list of claims: which clusters are being copied just now.
 *
 * A thread that copies puts the clusters on the list first.  Claims never
 * overlap, so a cluster is copied once; a thread that needs a cluster which
 * another is copying waits for that one copy, then finds it done, or leaves it
 * out.  A thread waits for others only while it has no claim: no cycle, no
 * deadlock.
 *
 * The life of a cluster, under which lock, and who may touch it:
 *
 *   not done ----------> in flight -----------------> done
 *     |    claim (lock)   |         set bit (release), then
 *     |                   |         take off the list (lock)
 *     |                   `-> unchanged: what the guest writes is there
 *     |                       already; claimed until its write has ended
 *     `--- a failed copy goes back to "not done", and so does an unchanged
 *          one, unless the guest's write failed: then it is copied after all
 */

#ifndef CBW_CLAIMS_H
#define CBW_CLAIMS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/chain.h"

struct copy_job;

/* Clusters [need.start, need.end) are being copied.  Others look at it under
 * the lock.
 */
struct claim {
  struct claim *next;
  bool held;                    /* on the list */
  uint64_t number;              /* of all claims so far */
  uint64_t since_ns;            /* monotonic */
  struct chain_need need;
  const struct copy_job *unchanged; /* whose data is there already, or NULL */
  bool copying;                 /* that has failed: it is copied after all */
  pthread_cond_t released;
};

struct claims {
  pthread_mutex_t lock;
  struct claim *first;          /* in flight, under the lock */
  uint64_t nr;                  /* how many there have been; the same */
};

extern void claims_init (struct claims *claims);
extern void claims_destroy (struct claims *claims);

/* What to claim.  The function finds the first run of [start, end) that needs
 * something, and says for which snapshot; it is called with the lock held.
 */
typedef bool claim_find (const void *of, uint64_t start, uint64_t end,
                         struct chain_need *need);

struct claim_request {
  claim_find *find;
  const void *of;               /* its argument */
  uint64_t start, end;
  uint64_t max;                 /* claim this many clusters at most */

  /* What to do where another thread has a claim on the run. */
  enum {
    CLAIM_WAIT,                 /* wait for it, no longer from "since" on than
                                 * the snapshot's time limit */
    CLAIM_REFUSE,               /* end: the caller has claims, and must not
                                 * wait */
    CLAIM_SKIP,                 /* look behind it */
  } others;
  uint64_t since;               /* monotonic */
};

enum claimed {
  CLAIM_MINE,
  CLAIM_NONE,                   /* no run needs it */
  CLAIM_LATE,                   /* of WAIT: the time limit of the snapshot that
                                 * mine->need names is over */
  CLAIM_OTHERS,                 /* of REFUSE: another thread has a claim */
};

/* Claim the first run that needs it, up to where another claim begins. */
extern enum claimed claim_first (struct claims *claims,
                                 const struct claim_request *request,
                                 struct claim *mine);

/* Give back what of the claim lies behind "end", or all of it. */
extern void claim_shrink (struct claims *claims, struct claim *mine,
                          uint64_t end);
extern void claim_release (struct claims *claims, struct claim *mine);

/* Is the claim held, and are clusters [start, end) in it?  For its owner. */
static inline bool
claim_covers (const struct claim *mine, uint64_t start, uint64_t end)
{
  return mine->held && mine->need.start <= start && end <= mine->need.end;
}

/* What is the oldest copy under way waiting for?  Describes it for a person;
 * false if there is none.
 */
extern bool claims_describe_oldest (struct claims *claims, char *buf,
                                    size_t len);

/* Wait until no copy of clusters [start, end) is in flight that is now:
 * not for those that begin meanwhile, so that it ends; nor for guests' writes
 * of what is there, which may take as long as they like.
 */
extern void claims_wait (struct claims *claims, uint64_t start, uint64_t end);

#endif /* CBW_CLAIMS_H */
