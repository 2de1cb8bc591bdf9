/* SPDX-License-Identifier: BSD-3-Clause */

/* The engine: what a guest's write passes through, and what a snapshot is
 * read with.  It knows nothing of the request list or of parameters.
 *
 * docs/concurrency.md has the argument why it is right.
 */

#ifndef CBW_ENGINE_H
#define CBW_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "chain.h"
#include "copy.h"
#include "gate.h"
#include "source.h"

struct engine {
  struct gate gate;
  struct chain_head chain;
  struct copier copier;
};

extern void engine_init (struct engine *e);

/* Every thread is gone, and every guest. */
extern void engine_destroy (struct engine *e);

enum guest_op { GUEST_WRITE, GUEST_ZERO, GUEST_TRIM };

/* A guest is about to change [offset, offset+count).  When this returns,
 * the old data there is preserved, or the snapshot marked broken, and the
 * change may go to the source.  Call engine_guest_end with the value that
 * was returned when it has reached it, whether or not it succeeded.
 *
 * "source" is where old data is read; it must be the protected disk.
 */
extern unsigned engine_guest_begin (struct engine *e,
                                    const struct source *source,
                                    uint64_t offset, uint64_t count,
                                    enum guest_op op);
extern void engine_guest_end (struct engine *e, unsigned ticket);

/* Would such a change have to wait for a copy?  A hint: it may be out of
 * date when it returns.
 */
extern bool engine_guest_would_copy (struct engine *e, uint64_t offset,
                                     uint64_t count);

/* From now on "snap" is a snapshot of the disk; owned by the engine.  Its
 * entry becomes LIVE, if it is still RESERVED, with the guests' writes
 * drained.  0, or -1 (errno ENOMEM).
 */
extern int engine_add_snapshot (struct engine *e, struct snapshot *snap);

#endif /* CBW_ENGINE_H */
