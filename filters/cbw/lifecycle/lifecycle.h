/* SPDX-License-Identifier: BSD-3-Clause */

/* How snapshots come and go: made (create.c), dropped (drop.c), and
 * brought back from a segment whose earlier server has ended (takeover.c).
 *
 * An entry is written in state RESERVED, with its target's name in it
 * before the target is made, and becomes LIVE by one store; it is dropped
 * by one store of HIDDEN.  A server that dies in between leaves a
 * reservation, which the next one undoes, or a hidden entry, which the
 * next one clears away.
 *
 * The chain changes under engine->control, one change after the other.  What
 * may take long is done without that: making and opening targets, closing
 * and emptying them (closer.h).  Meanwhile an entry is reserved, or ending,
 * in the server's table (table.h).
 */

#ifndef CBW_LIFECYCLE_H
#define CBW_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/engine.h"
#include "segment/segment.h"
#include "utils/error.h"

struct create_params {
  const char *name;
  const char *target;           /* absolute path, or NBD server */
  const char *access;           /* path of the access file, or NULL */
  struct cbw_options options;
  uint64_t speed;               /* of a backup, bytes/s; 0: any */
  uint32_t flags;               /* CBW_CREATE_FORCE, CBW_CREATE_SINCE */
  uint64_t since;               /* with the latter: id, or CBW_SINCE_AUTO */
  uint32_t owner;               /* client's tag, or 0 */
  uint64_t hold_ns;             /* how long guests may be held; 0:
                                 * CBW_HOLD_DEFAULT */
  uint8_t uuid[16];             /* of the snapshot */
};

/* Take a snapshot of the disk, of "size" bytes, with old data going to a
 * new raw file, or to an NBD server.  *held_ns is how long guests' writes were held.  Success
 * too if the very snapshot (by uuid) exists.  0, or -1 with the error set
 * and nothing changed: EAGAIN if the disk had grown beyond "size" by that
 * moment.
 */
extern int create_snapshot (struct engine *engine, struct segment *segment,
                            const struct create_params *p, uint64_t size,
                            uint64_t *held_ns, struct error *e);

/* Discard the whole clusters in [offset, offset+count) of snapshot "id": they
 * are not accessible any more, guests' writes there preserve nothing for this
 * snapshot, and the space that no older one reads is given back.  Cannot be
 * undone.  Of a backup nothing can be discarded (EPERM).  Returns 0 or the
 * errno for the client, as in view/read.h.
 */
extern int discard_clusters (struct engine *engine, uint64_t id,
                             uint64_t count, uint64_t offset);

/* Drop snapshot "id": its readers get ESHUTDOWN, and the space that no
 * older snapshot needs is given back.  The target of a backup that is
 * complete stays.  With "keep_point" its point stays, as a checkpoint, but not
 * that of a backup that is not complete.  Without it, a checkpoint of that id
 * is dropped, too.  Success too if it has been dropped before.  hold_ns as in
 * struct create_params.  0, or -1 with the error set.
 */
extern int drop_snapshot (struct engine *engine, struct segment *segment,
                          uint64_t id, bool keep_point, uint64_t hold_ns,
                          struct error *e);

/* ---- Points (checkpoint.c) ---- */

/* Make a checkpoint of the disk, of "size" bytes.  hold_ns and *held_ns as in
 * create_snapshot.  Success too if the very checkpoint (by uuid) exists.  0, or
 * -1 with the error set: EEXIST (the name is taken), EOPNOTSUPP (changes are
 * not tracked), EIO (it could not be made durable), and as create_snapshot.
 */
extern int create_checkpoint (struct engine *engine, struct segment *segment,
                              const char *name, const uint8_t uuid[16],
                              uint64_t size, uint64_t hold_ns,
                              uint64_t *held_ns, struct error *e);

/* Reserve a place for a point as points_reserve does, after one that may go has
 * made room; never "since", from which changes are counted (0: from none).
 */
extern int draft_point (struct engine *engine, const char *name,
                        const uint8_t uuid[16], uint32_t flags,
                        uint64_t since, struct points_draft *draft,
                        struct error *e);

/* Drop point "id", if there is such a point.  0, or -1 with the error set as of
 * hold_begin, and nothing changed.  The caller holds engine->control.
 */
extern int drop_point (struct engine *engine, uint64_t id, uint64_t hold_ns,
                       struct error *e);

/* Point "id" may have the name of an older backup's point: drop that.  Of a
 * backup that is done when it is complete.  The caller holds engine->control.
 */
extern void drop_replaced_point (struct engine *engine, uint64_t id);

/* How long the answer to a request waits for the space to be given back. */
#define END_WAIT (5 * NS_PER_SEC)

/* A snapshot that is off the chain: when the last user has gone its target is
 * removed, unless that is a whole image, and the entry is free.  "keep": but
 * the result of a complete backup is still wanted.  Takes over the reference.
 */
extern void retire_snapshot (struct engine *engine, struct snapshot *snap,
                             bool keep);

/* Let go of the backups that are complete: of each only the result is kept,
 * and of the hidden snapshots that were kept for it, nothing.  Guests are held
 * no longer than hold_ns, as by engine_drop_snapshot; if that is too short,
 * nothing happens.
 */
#define QUIET_HOLD (10 * NS_PER_MS) /* for what can be done later as well */
extern void release_complete (struct engine *engine, uint64_t hold_ns);

/* Drop the snapshots whose owner is gone; alive() tells of a client. */
extern void drop_orphans (struct engine *engine, struct segment *segment,
                          bool (*alive) (void *opaque, unsigned client),
                          void *opaque);

/* End the hold of the gate (hold.h) if it is a client's that is gone.  Waits
 * for nothing.
 */
extern void end_orphan_hold (struct engine *engine,
                             const struct segment *segment,
                             bool (*alive) (void *opaque, unsigned client),
                             void *opaque);

/* Break the snapshots whose target was removed, replaced or resized. */
extern void check_targets (struct engine *engine);

/* Bring back every snapshot of a segment taken over.  One whose target is
 * proved to be lost, or that lived through an unclean reboot, comes back
 * broken.  Returns 0, or -1 with the error set: EBADMSG if the table is damaged
 * and EINVAL if the disk is smaller now than one of them, with nothing changed;
 * or another error if a target cannot be opened now that may be there.  By then
 * what nobody needs any more has been cleared away, and nothing else changed.
 */
extern int takeover_snapshots (struct engine *engine, struct segment *segment,
                               uint64_t disk_size, struct error *e);

/* Let the backups among them continue; segment_begin has been called.  0, or
 * -1 with the error set.
 */
extern int takeover_backups (struct engine *engine, struct error *e);

#endif /* CBW_LIFECYCLE_H */
