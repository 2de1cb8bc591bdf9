/* SPDX-License-Identifier: BSD-3-Clause */

/* What the engine needs around it in a unit test: a disk in memory in the
 * place of nbdkit's next layer, snapshots with targets in memory, and the
 * few functions of nbdkit's that the engine calls.
 *
 * Source and target have hooks, which are called once each, in the middle
 * of an operation, in the thread that runs it.  So a test says exactly
 * what happens between which two steps of the engine.
 */

#ifndef CBW_ENGINE_ENV_H
#define CBW_ENGINE_ENV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "guest/engine.h"
#include "image/image.h"
#include "segment/layout.h"
#include "segment/segment.h"

struct hook {
  void (*_Atomic run) (void *opaque); /* NULL: nothing to call */
  void *opaque;
  _Atomic (int) skip;           /* let this many operations pass first */
};

/* The same for source and target. */
struct fake {
  unsigned char *data;
  uint64_t size;
  _Atomic (int) fail;           /* errno of every further read and write */
  _Atomic (int) fail_writes;    /* the same, of writes only */
  struct hook before, amid, after; /* no byte, half, all moved */
  struct hook in_extent, in_flush; /* of a target */
  _Atomic (unsigned) reads, writes, extents;
  uint64_t last_offset, last_count; /* of the last read or write */
};

/* The hook before the bytes of a read or write are moved (0), amid them (1),
 * or after them (2).
 */
static inline struct hook *
fake_hook (struct fake *f, unsigned i)
{
  return i == 0 ? &f->before : i == 1 ? &f->amid : &f->after;
}

struct fake_source {
  struct nbdkit_next_ops ops;   /* first: it is the nbdkit_next */
  struct fake fake;
};

struct fake_target {
  struct image image;           /* first */
  struct fake fake;
  unsigned char *written;       /* per byte */
  bool holes;                   /* what is punched is a hole, not rubbish */
  _Atomic (unsigned) rewrites;  /* writes over what was written before */
  _Atomic (unsigned) flushes;
  _Atomic (int) fail_flush;     /* errno */
  struct bitmap punched;        /* per cluster; not this target's own */
  uint32_t cluster_size;
};

/* One snapshot.  The engine owns "snap" and its target: both are gone
 * once it has been dropped and nobody looks through it any more, which is
 * when the state of "entry" is EMPTY.
 */
struct env_snapshot {
  struct cbw_snapshot entry;
  struct snapshot *snap;
  struct fake_target *target;
  struct bitmap access, done, settled, moved;
  struct bitmap punched;        /* clusters given back */
  unsigned char *old;           /* the disk at the moment of the snapshot */
};

struct env {
  struct engine engine;
  struct segment segment;       /* a header alone */
  struct fake_source disk;
  struct source source;
  uint32_t cluster_size;
  unsigned nr;                  /* snapshots made so far, oldest first */
  struct env_snapshot s[CBW_NR_SNAPSHOTS];
};

/* The id of snapshot i. */
#define ENV_ID(i) ((uint64_t) (i) + 7)
#define ENV_SNAPSHOT_ID ENV_ID (0)

/* A disk of "size" bytes filled from "seed" (every third cluster is
 * zero: 1, 4, 7, ...), without a snapshot, or with one, live.
 */
extern void env_start_bare (struct env *env, uint64_t size,
                            uint32_t cluster_size, uint64_t seed);
extern void env_start (struct env *env, uint64_t size, uint32_t cluster_size,
                       uint64_t seed);
extern void env_end (struct env *env);

/* Before the first snapshot: let old data go to a write-back buffer of
 * so many clusters; and let it go on to the targets.
 */
extern void env_buffer (struct env *env, uint32_t nr_cells);
extern void env_drain (struct env *env);

/* How many clusters are in it. */
extern uint64_t env_buffered (struct env *env);

/* The filter is gone, and nothing was said: of an engine with a segment of its
 * own, where the next one finds what it has left.
 */
extern void env_vanish (struct engine *e, struct segment *segment);

/* engine_cut and engine_commit of a snapshot alone. */
extern int env_cut (struct engine *e, struct snapshot *snap,
                    uint64_t *held_ns, struct error *error);
extern int env_commit (struct engine *e, uint64_t number,
                       struct snapshot *snap, uint64_t *held_ns,
                       struct error *error);

/* Take a snapshot of the first "size" bytes of the disk: as if it had
 * grown since.  Returns its index.
 */
extern unsigned env_create (struct env *env, uint64_t size);

/* The same with nothing around it: the chain as it would be after a
 * restart, with an entry in any state.
 */
extern unsigned env_adopt (struct env *env, uint64_t size,
                           enum cbw_snapshot_state state);

/* The same, but it is not in the chain yet.  Its "old" is the disk as it is
 * now; the caller has the reference to its "snap".
 */
extern unsigned env_prepare (struct env *env, uint64_t size,
                             enum cbw_snapshot_state state);

extern void env_drop (struct env *env, unsigned i);

/* Of the segment: what is there for readers that do not ask. */
static inline struct cbw_header *
env_header (const struct env *env)
{
  return map_header (&env->segment.map);
}

/* The same as env_create, of the whole disk, as a backup: paused, or not. */
extern unsigned env_backup (struct env *env, bool paused);

static inline uint32_t
env_state (const struct env *env, unsigned i)
{
  return atomic_load (&env->s[i].entry.state);
}

extern void hook_set (struct hook *hook, void (*run) (void *), void *opaque);

/* A guest's change, from begin to end; a write fills with "byte". */
extern void env_guest (struct env *env, enum guest_op op, uint64_t offset,
                       uint64_t count, unsigned char byte);

/* Read snapshot i; returns serve_read's result.  If it is 0 the bytes have
 * been compared with the old ones.
 */
extern int env_view_of (struct env *env, unsigned i, uint64_t offset,
                        uint64_t count);

/* Ask for the extents of snapshot i, and check that what is called zero
 * was, and that they cover no more than was asked.  Returns serve_extents'
 * result; *length is what they cover.
 */
extern int env_view_extents_of (struct env *env, unsigned i, uint64_t offset,
                                uint64_t count, uint64_t *length);

/* The same of the first snapshot. */
extern int env_view (struct env *env, uint64_t offset, uint64_t count);
extern int env_view_extents (struct env *env, uint64_t offset,
                             uint64_t count, uint64_t *length);

/* Is cluster c done in the first snapshot?  Its old data is then compared
 * with the target.
 */
extern bool env_done (struct env *env, uint64_t c);

/* Move bytes that other threads change meanwhile, each one atomically. */
extern void racy_copy (void *to, const void *from, uint64_t count);

#endif /* CBW_ENGINE_ENV_H */
