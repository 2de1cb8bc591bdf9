/* SPDX-License-Identifier: BSD-3-Clause */

/* The chain of snapshots, ordered by age: snaps[0] is the oldest.  view.h
 * finds the holder of a cluster; this header finds the snapshot that needs one.
 *
 * Old data goes to one place only: to the newest live snapshot that still has
 * the cluster from the source, since all older ones see it there.  So a guest's
 * write costs the same however many snapshots there are, and one that broke or
 * was dropped gets no more data, and stands in nobody's way.
 *
 * A dropped snapshot stays in the chain, hidden, while an older one may
 * look through it; it goes when it becomes the oldest.  A backup goes at
 * once.
 *
 * A chain never changes; a new one replaces it, under the closed gate.
 * The guest path, being inside the gate, uses the current one as it is.
 * Everybody else takes a reference (chain_get), which keeps the snapshots
 * in it alive too.
 */

#ifndef CBW_CHAIN_H
#define CBW_CHAIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/snapshot.h"

struct chain {
  _Atomic (unsigned) refs;
  size_t len;                   /* at least 1 */
  struct snapshot *snaps[CBW_NR_SNAPSHOTS]; /* a reference each */
  struct view_chain views;      /* theirs */
};

/* Where the current chain stands. */
struct chain_head {
  pthread_mutex_t lock;         /* for taking references */
  struct chain *current;        /* NULL: no snapshot */
};

extern void chain_head_init (struct chain_head *head);

/* Drop the last chain.  No thread uses it any more. */
extern void chain_head_destroy (struct chain_head *head);

/* A reference to the current chain, or NULL; give it back. */
extern struct chain *chain_get (struct chain_head *head);
extern void chain_put (struct chain *chain);

static inline void
cleanup_chain_put (struct chain **chain)
{
  chain_put (*chain);
}

#define CLEANUP_CHAIN_PUT __attribute__ ((cleanup (cleanup_chain_put)))

/* A new chain, not current yet: the old one (may be NULL) without those
 * with their "leaves" set (NULL: none), and "snap" (may be NULL) behind it.
 * Takes references.  NULL if it would be empty, or (errno ENOMEM) on error.
 */
extern struct chain *chain_make (const struct chain *old, const bool *leaves,
                                 struct snapshot *snap);

/* Who leaves the chain when "snap" (may be NULL) is dropped: leaves[] is set
 * for each.  Those are hidden or complete, and nobody who stays may look
 * through them.  Returns their number.
 */
extern size_t chain_leaving (const struct chain *chain,
                             const struct snapshot *snap, bool *leaves);

/* Make "chain" (may be NULL) current.  The gate is closed. */
extern void chain_set (struct chain_head *head, struct chain *chain);

/* The index of snapshot "id", or -1.  "chain" may be NULL. */
static inline int
chain_find (const struct chain *chain, uint64_t id)
{
  return view_find (chain ? &chain->views : NULL, id);
}

static inline struct snapshot *
chain_newest (const struct chain *chain)
{
  return chain->snaps[chain->len - 1];
}

/* The functions below look at bits that others change, as view.h says. */

/* Which clusters of j's target, from *cursor on, may no live snapshot read
 * there, j or an older one?  Fills in up to "max" runs, and moves *cursor
 * behind what was looked at; it is at snapshot j's end when that is all.
 * Returns how many there are.  They stay unneeded.
 */
struct chain_run {
  uint64_t start, end;
};

extern size_t chain_unneeded (const struct chain *chain, size_t j,
                              uint64_t *cursor, struct chain_run *runs,
                              size_t max);

/* Give the space of such clusters of [start, end) back. */
extern void chain_punch (const struct chain *chain, size_t j,
                         uint64_t start, uint64_t end);

/* Find the snapshot that reads cluster c in j's target, now or once j's done
 * bit of it is set: a live one, j or (unless j is a backup) an older one.
 * Returns the newest of several.  NULL if there is none, and then there never
 * will be.  The answer is the same for [c, *run), with c < *run <= end.
 */
extern struct snapshot *chain_reader (const struct chain *chain, size_t j,
                                      uint64_t c, uint64_t end,
                                      uint64_t *run);

/* Clusters [start, end) could not be brought to j's target: break the
 * snapshots that read them there.
 */
extern void chain_lose_range (const struct chain *chain, size_t j,
                              uint64_t start, uint64_t end,
                              const struct error *e);

/* The target of snapshot j is lost: break it, and the older ones that look
 * through it.
 */
extern void chain_lose_target (const struct chain *chain, size_t j,
                               const struct error *e);

/* A run of clusters that must be copied to "by", the newest live snapshot
 * which may be read there and has them from the source.
 */
struct chain_need {
  uint64_t start, end;
  struct snapshot *by;
};

/* The first such run of [start, end); false if there is none. */
extern bool chain_next_needed (const struct chain *chain, uint64_t start,
                               uint64_t end, struct chain_need *need);

#endif /* CBW_CHAIN_H */
