/* SPDX-License-Identifier: BSD-3-Clause */

/* The target of a snapshot, as its table entry names it: a raw file, or
 * an NBD server.  What is different about the two is here; once open, they
 * are images.
 */

#ifndef CBW_TARGET_H
#define CBW_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "segment/layout.h"
#include "utils/error.h"

/* CBW_TARGET_* of what a user calls a target. */
extern uint32_t target_kind (const char *target);

/* "fixed" is the server's own copy of what is fixed of an entry, and "words"
 * are in the entry: what is known of the last writes to an NBD server.
 */

/* Make the target of a reserved entry and note in "fixed" what it is; "force": even if it holds data.  A file that is there is
 * removed, but for a backup: then it is checked only, and replaced when the
 * backup is whole (target_publish), and the target made beside it.  *created
 * tells if there was no such file before.  NULL with the error set, and
 * nothing changed.
 */
extern struct image *target_make (struct cbw_snapshot *fixed,
                                  _Atomic (uint64_t) *words,
                                  uint32_t cluster_size, bool force,
                                  bool *created, struct error *e);

/* The same of a target that holds an older image: that of the point with the
 * uuid, as the caller has found.  It is marked as on its way, if it is a file,
 * and stays the user's, whatever comes.
 */
extern struct image *target_make_update (struct cbw_snapshot *fixed,
                                         _Atomic (uint64_t) *words,
                                         uint32_t cluster_size,
                                         const uint8_t uuid[16],
                                         struct error *e);

/* What target_make created is not needed after all; the image is still
 * open.
 */
extern void target_undo (const struct cbw_snapshot *fixed,
                         struct image *image);

/* A reservation whose server has ended: remove what it may have made. */
extern void target_undo_reserved (const struct cbw_snapshot *fixed);

enum target_opened {
  TARGET_OPENED,
  TARGET_LOST,                  /* for good, as is proved */
  TARGET_NOT_NOW,               /* the reason may pass, or be put right */
};

/* Open the target of a snapshot that an earlier server had and left in this
 * state; "clean": it ended in good order, so an NBD target was flushed.  An NBD server that cannot be reached now is no error.  If it is
 * not opened, *image is NULL and the error set.
 */
extern enum target_opened target_reopen (const struct cbw_snapshot *fixed,
                                         _Atomic (uint64_t) *words,
                                         enum cbw_snapshot_state state,
                                         bool clean,
                                         uint32_t cluster_size,
                                         struct image **image,
                                         struct error *e);

/* A dropped snapshot that older ones need: its target must not be in the
 * way of the next with the same name.  It is no error if it cannot be
 * moved.
 */
extern void target_move_aside (const struct cbw_snapshot *fixed,
                               struct image *image);

/* The image of a backup is whole, flushed, and the snapshot was live after
 * that: give it its name, on stable storage.  Done twice is done once.  0, or
 * -1 with the error set.
 */
extern int target_publish (const struct cbw_snapshot *fixed,
                           struct image *image, struct error *e);

/* A snapshot is gone: remove its target, or give back what it holds.
 * "image" may be NULL.  An image that has been published stays.
 */
extern void target_discard (const struct cbw_snapshot *fixed,
                            struct image *image);

#endif /* CBW_TARGET_H */
