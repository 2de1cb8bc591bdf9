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
#include "fill.h"
#include "gate.h"
#include "inflight.h"
#include "source.h"
#include "writeback.h"

struct engine {
  pthread_mutex_t control;      /* around creating and dropping */

  _Atomic (unsigned) stalled;   /* guests' writes that wait for space */
  struct gate gate;
  struct chain_head chain;
  struct copier copier;
  struct fill fill;
  struct writeback writeback;
  struct inflight inflight;     /* what is under way in the source */
  struct source source;         /* for threads of the engine's own */
};

extern void engine_init (struct engine *e);

/* Every guest is gone: end the engine's own threads.  Returns false if a
 * copy that took too long, or a piece of a backup, is still under way: then the source, the segment
 * and the engine must stay until the process is gone.
 */
extern bool engine_stop (struct engine *e);

/* After that, with the service threads gone too. */
extern void engine_destroy (struct engine *e);

/* The source for threads of the engine's own, which copy when there is a
 * time limit, and for backups; and for the cut.
 */
extern void engine_set_source (struct engine *e, const struct source *source);

enum guest_op { GUEST_WRITE, GUEST_ZERO, GUEST_TRIM };

/* A guest is about to change [offset, offset+count).  When this returns 0,
 * the old data there is preserved, or the snapshot marked broken, and the
 * change may go to the source.  Call engine_guest_end with *ticket when it
 * has reached it, whether or not it succeeded.
 *
 * Returns an errno if the change must fail instead; then there is no
 * ticket.  "source" is where old data is read; it must be the protected
 * disk.  "data" is what will be written there, or NULL.
 */
extern int engine_guest_begin (struct engine *e, const struct source *source,
                               uint64_t offset, uint64_t count,
                               enum guest_op op, const void *data,
                               unsigned *ticket);
extern void engine_guest_end (struct engine *e, unsigned ticket);

/* Would such a change have to wait for a copy?  A hint: it may be out of
 * date when it returns.
 */
extern bool engine_guest_would_copy (struct engine *e, uint64_t offset,
                                     uint64_t count);

/* From now on "snap" is the newest snapshot of the disk; the chain takes
 * its own reference.  Its entry becomes LIVE, if it is still RESERVED,
 * with the guests' writes drained.  *held_ns is how long they were held.
 * 0, or -1 with the error set: ENOMEM, or what cut_check (cut.h) gives.  The
 * caller holds e->control.
 */
extern int engine_add_snapshot (struct engine *e, struct snapshot *snap,
                                uint64_t *held_ns, struct error *error);

/* The source is not the disk that a guest has, as its write at offset has
 * shown: break all snapshots, for the reason given.
 */
extern void engine_lose_source (struct engine *e, uint64_t offset,
                                const char *msg);

/* The snapshot is dropped: hidden, and taken off the chain if nothing
 * older is left, with those hidden ones that thereby become the oldest.
 * What was taken off is put into gone[] (of CBW_NR_SNAPSHOTS), with a
 * reference each for the caller; *nr_gone is their number.
 * 0, or -1 (errno ENOMEM).  The caller holds e->control.
 */
extern int engine_drop_snapshot (struct engine *e, struct snapshot *snap,
                                 struct snapshot **gone, size_t *nr_gone);

#endif /* CBW_ENGINE_H */
