/* SPDX-License-Identifier: BSD-3-Clause */

/* What the engine needs around it in a unit test: a disk in memory in the
 * place of nbdkit's next layer, a target in memory, one snapshot, and the
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

#include "engine.h"
#include "image.h"
#include "layout.h"

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
  _Atomic (unsigned) reads, writes, extents;
  uint64_t last_offset, last_count; /* of the last read or write */
};

struct fake_source {
  struct nbdkit_next_ops ops;   /* first: it is the nbdkit_next */
  struct fake fake;
};

struct fake_target {
  struct image image;           /* first */
  struct fake fake;
  unsigned char *written;       /* per byte */
};

struct env {
  struct engine engine;
  struct snapshot *snap;
  struct cbw_snapshot entry;
  struct fake_source disk;
  struct source source;
  struct fake_target *target;
  unsigned char *old;           /* the disk at the moment of the snapshot */
};

#define ENV_SNAPSHOT_ID 7

/* A disk of "size" bytes filled from "seed" (every third cluster is
 * zero: 1, 4, 7, ...), and its snapshot, live.
 */
extern void env_start (struct env *env, uint64_t size, uint32_t cluster_size,
                       uint64_t seed);
extern void env_end (struct env *env);

extern void hook_set (struct hook *hook, void (*run) (void *), void *opaque);

/* A guest's change, from begin to end; a write fills with "byte". */
extern void env_guest (struct env *env, enum guest_op op, uint64_t offset,
                       uint64_t count, unsigned char byte);

/* Read the view; returns view_read's result.  If it is 0 the bytes have
 * been compared with the old ones.
 */
extern int env_view (struct env *env, uint64_t offset, uint64_t count);

/* Ask for the extents of the view, and check that what is called zero
 * was, and that they cover no more than was asked.  Returns view_extents'
 * result; *length is what they cover.
 */
extern int env_view_extents (struct env *env, uint64_t offset,
                             uint64_t count, uint64_t *length);

/* Is cluster c done?  Its old data is then compared with the target. */
extern bool env_done (struct env *env, uint64_t c);

/* Move bytes that other threads change meanwhile, each one atomically. */
extern void racy_copy (void *to, const void *from, uint64_t count);

#endif /* CBW_ENGINE_ENV_H */
