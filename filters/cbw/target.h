/* SPDX-License-Identifier: BSD-3-Clause */

/* The target of a snapshot, as its table entry names it: a raw file, or
 * an NBD server.  What is different about the two is here; once open, they
 * are images.
 */

#ifndef CBW_TARGET_H
#define CBW_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "image.h"
#include "layout.h"

/* CBW_TARGET_* of what a user calls a target. */
extern uint32_t target_kind (const char *target);

/* Make the target of a reserved entry, and note in the entry what it is;
 * "force": even if it holds data.  *created tells if there was no such
 * file before.  NULL with the error set, and nothing changed.
 *
 * "entry" is the server's own copy, here and below.  "words" are in the
 * segment: what is known of the last writes to an NBD server.
 */
extern struct image *target_make (struct cbw_snapshot *entry,
                                  _Atomic (uint64_t) *words,
                                  uint32_t cluster_size, bool force,
                                  bool *created, struct error *e);

/* What target_make created is not needed after all. */
extern void target_undo (const struct cbw_snapshot *entry);

/* Open the target of a snapshot that an earlier server had.  An NBD server
 * that cannot be reached now is no error.  NULL with the error set; EBUSY
 * if another program uses it.
 */
extern struct image *target_reopen (struct cbw_snapshot *entry,
                                    _Atomic (uint64_t) *words,
                                    uint32_t cluster_size, struct error *e);

/* A dropped snapshot that older ones need: its target must not be in the
 * way of the next with the same name.  It is no error if it cannot be
 * moved, or has been.
 */
extern void target_move_aside (const struct cbw_snapshot *entry);

/* A snapshot is gone: remove its target, or give back what it holds.
 * "image" may be NULL.
 */
extern void target_discard (const struct cbw_snapshot *entry,
                            struct image *image);

#endif /* CBW_TARGET_H */
