/* SPDX-License-Identifier: BSD-3-Clause */

/* The chain's generation: a counter in the segment for those who read there
 * which snapshots there are, without asking the server.
 *
 * It is odd while the chain changes, and even otherwise.  It also grows before
 * an entry that was in the chain, its bitmaps or its target are used for
 * something else, and when a server takes the segment over.  So a reader that
 * found it even, and the same after its last look, has seen one chain, and
 * nothing of what came after it (docs/correctness.md, section 22).
 *
 * The server counts in its own memory, as others may write to the segment.
 * The lock is a leaf.
 */

#ifndef CBW_GENERATION_H
#define CBW_GENERATION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct generation {
  pthread_mutex_t lock;         /* for the rest */
  uint64_t value;
  _Atomic (uint64_t) *shared;   /* in the segment; NULL: there is none */
};

extern void generation_init (struct generation *g);
extern void generation_destroy (struct generation *g);

/* Continue the count that is in the segment, where a dead server may have left
 * an odd one.  Nothing is written yet.
 */
extern void generation_attach (struct generation *g,
                               _Atomic (uint64_t) *shared);

/* Around a change of the chain, in the closed gate, with engine->control
 * held: only one is under way.
 */
extern void generation_begin (struct generation *g);
extern void generation_end (struct generation *g);

/* What earlier readers may hold is about to be used for something else.  May
 * be called while the chain changes.
 */
extern void generation_bump (struct generation *g);

/* The value as it is now. */
extern uint64_t generation_value (struct generation *g);

#endif /* CBW_GENERATION_H */
