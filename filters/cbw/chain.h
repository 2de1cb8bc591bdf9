/* SPDX-License-Identifier: BSD-3-Clause */

/* Snapshots as the filter's threads see them, and the chain they form,
 * ordered by age: snaps[0] is the oldest.
 *
 * Old data goes to the newest only.  Snapshot k sees cluster c as the
 * first of k, k+1, ... which has its done bit set holds it, and if none
 * has, as the source holds it.
 *
 * A chain never changes; a new one replaces it, under the closed gate.
 * The guest path, being inside the gate, uses the current one as it is.
 * Everybody else takes a reference (chain_get) and so keeps the snapshots
 * alive.
 */

#ifndef CBW_CHAIN_H
#define CBW_CHAIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bitmap.h"
#include "image.h"
#include "layout.h"

struct snapshot {
  struct cbw_snapshot *entry;   /* in the segment */
  uint64_t id;
  uint64_t size;                /* bytes */
  uint32_t cluster_size;
  struct bitmap access, done, dirty; /* in the segment */
  struct image *target;         /* owned; NULL if broken from the start */
};

struct chain {
  _Atomic (unsigned) refs;
  size_t len;
  struct snapshot *snaps[];     /* owned by the last chain to go */
};

/* Where the current chain stands. */
struct chain_head {
  pthread_mutex_t lock;         /* for taking references and breaking */
  struct chain *current;        /* NULL: no snapshot */
};

extern void chain_head_init (struct chain_head *head);

/* Drop the last chain.  No thread uses it any more. */
extern void chain_head_destroy (struct chain_head *head);

/* A reference to the current chain, or NULL; give it back. */
extern struct chain *chain_get (struct chain_head *head);
extern void chain_put (struct chain *chain);

/* Put a snapshot, which becomes the head's, on the newest end.  The gate
 * is closed, or no guest is connected.  0, or -1 (errno ENOMEM).
 */
extern int chain_append (struct chain_head *head, struct snapshot *snap);

/* The index of snapshot "id", or -1. */
extern int chain_find (const struct chain *chain, uint64_t id);

/* Who holds the data of cluster c for snapshot k?  Returns an index into
 * snaps, or chain->len for the source.  *run is set so that the answer is
 * the same for [c, *run), with c < *run <= end.
 */
extern size_t chain_holder (const struct chain *chain, size_t k,
                            uint64_t c, uint64_t end, uint64_t *run);

static inline enum cbw_snapshot_state
snapshot_state (const struct snapshot *snap)
{
  return atomic_load_explicit (&snap->entry->state, memory_order_acquire);
}

/* The snapshot is lost, for the reason given: say so in the segment and
 * the log.  The first error is the one kept.  When it returns, every
 * reader that looks at the state later sees it.
 */
extern void snapshot_break (struct chain_head *head, struct snapshot *snap,
                            enum cbw_broken_reason reason, int num,
                            uint64_t offset, const char *msg);

extern void snapshot_free (struct snapshot *snap);

#endif /* CBW_CHAIN_H */
