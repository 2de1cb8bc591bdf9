/* SPDX-License-Identifier: BSD-3-Clause */

/* The engine: what a guest's write passes through, and what a snapshot is
 * read with.  It knows nothing of the request list or of parameters.
 *
 * docs/correctness.md has the argument why it is right.
 */

#ifndef CBW_ENGINE_H
#define CBW_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "backup/fill.h"
#include "below/source.h"
#include "copy/copy.h"
#include "guest/gate.h"
#include "guest/hold.h"
#include "guest/inflight.h"
#include "points/hot.h"
#include "points/points.h"
#include "snapshot/chain.h"
#include "snapshot/closer.h"
#include "snapshot/command-policy.h"
#include "snapshot/generation.h"
#include "snapshot/table.h"
#include "writeback/writeback.h"

struct engine {
  pthread_mutex_t control;      /* around changes of the chain */
  struct table table;
  struct closer closer;

  _Atomic (unsigned) stalled;   /* guests' writes that wait for space */
  struct gate gate;
  struct hold hold;             /* of the gate, when it is closed */
  struct chain_head chain;
  struct generation generation; /* of the chain, for readers of the segment */
  struct copier copier;
  struct fill fill;
  struct writeback writeback;
  struct command_policy commands; /* set before snapshots come and go */
  struct inflight inflight;     /* what is under way in the source */
  struct points points;         /* what has changed since when */
  struct hot hot;               /* what may be lost */
  struct source source;         /* for threads of the engine's own */
};

extern void engine_init (struct engine *e);

/* As in threads.h, when every guest is gone; the stop ends a client's hold of
 * the gate, too.  If a thread is stuck in a call the source, the segment and
 * the engine must stay until the process is gone.
 * The service threads, which use the engine too, end before it is freed.
 */
extern void engine_stop (struct engine *e);
extern bool engine_join (struct engine *e, uint64_t until);
extern void engine_free (struct engine *e);

/* The last engine_join has returned false: say in the log what is stuck, and
 * leave it.
 */
extern void engine_leave (struct engine *e);

/* The source for threads of the engine's own, which copy when there is a
 * time limit, and for backups; and for the cut.
 */
extern void engine_set_source (struct engine *e, const struct source *source);

enum guest_op { GUEST_WRITE, GUEST_ZERO, GUEST_TRIM };

/* A guest's change, from its beginning to its end; where it is must not
 * change meanwhile.
 */
struct guest_change {
  unsigned stripe;              /* of the gate */
  struct copy_job job;
};

/* A guest is about to change [offset, offset+count).  When this returns 0,
 * the old data there is preserved, or the snapshot marked broken, or it is
 * the same as the new data, and the change may go to the source.  Call
 * engine_guest_end when it has ended, and say whether it failed.
 *
 * Returns an errno if the change must fail instead; then engine_guest_end is
 * not to be called.  "source" is where old data is read; it must be the
 * protected disk.  "data" is what will be written there, or NULL; both must
 * stay until the end.
 */
extern int engine_guest_begin (struct engine *e, struct image *source,
                               uint64_t offset, uint64_t count,
                               enum guest_op op, const void *data,
                               struct guest_change *change);
extern void engine_guest_end (struct engine *e, struct guest_change *change,
                              bool failed);

/* Would such a change have to wait for a copy?  A hint: it may be out of
 * date when it returns.
 */
extern bool engine_guest_would_copy (struct engine *e, uint64_t offset,
                                     uint64_t count);

/* What comes with the moment: either may be missing. */
struct engine_cut {
  struct snapshot *snap;        /* NULL: a checkpoint */
  const struct points_draft *draft; /* NULL: the snapshot has come before */
  uint64_t id;                  /* of both */
  uint64_t size;                /* of the disk, bytes */
  uint64_t created_ns;          /* time of day */
};

/* From now on cut->snap is the newest snapshot of the disk; the chain takes
 * its own reference.  Its entry becomes LIVE, if it is still RESERVED,
 * with the guests' writes drained.  At the same moment the draft becomes the
 * newest point.  hold_ns as of hold_begin (hold.h); *held_ns is how long
 * guests were held.  0, or -1 with the error set: as hold_begin, or as
 * engine_commit.  The caller holds e->control.
 */
extern int engine_cut (struct engine *e, const struct engine_cut *cut,
                       uint64_t hold_ns, uint64_t *held_ns,
                       struct error *error);

/* The same in the hold of that number, which any thread may have begun: it is
 * over when this returns.  0, or -1 with the error set, and nothing changed:
 * ESTALE if that hold was over before; ENOMEM; or what cut_check (cut.h)
 * gives.  The caller holds e->control.
 */
extern int engine_commit (struct engine *e, uint64_t number,
                          const struct engine_cut *cut, uint64_t *held_ns,
                          struct error *error);

/* The source is not the disk that a guest has, as its write at offset has
 * shown: break all snapshots, for the reason given.
 */
extern void engine_lose_source (struct engine *e, uint64_t offset,
                                const char *msg);

/* The snapshot is dropped: hidden, and taken off the chain if no other looks
 * through it, with those hidden ones for which that becomes so.  NULL: only
 * these, and backups that are complete.  Unless "keep_point", its point leaves
 * at the same moment (points_leave).  What was taken off is put into
 * gone[] (of CBW_NR_SNAPSHOTS), with a reference each for the caller; *nr_gone
 * is their number.  0, or -1 with the error set, and nothing changed: ENOMEM;
 * or as hold_begin.  The caller holds e->control.
 */
extern int engine_drop_snapshot (struct engine *e, struct snapshot *snap,
                                 bool keep_point, uint64_t hold_ns,
                                 struct snapshot **gone, size_t *nr_gone,
                                 struct error *error);

/* Point "id" is dropped; points_merge is still to be called.  0, or -1 with the
 * error set, as of hold_begin, and nothing changed.  The caller holds
 * e->control.
 */
extern int engine_leave_point (struct engine *e, uint64_t id,
                               uint64_t hold_ns, struct error *error);

#endif /* CBW_ENGINE_H */
