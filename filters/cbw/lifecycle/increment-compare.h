/* SPDX-License-Identifier: BSD-3-Clause */

/* Does an export hold the image that it is said to hold? */

#ifndef CBW_INCREMENT_COMPARE_H
#define CBW_INCREMENT_COMPARE_H

#include "guest/engine.h"
#include "utils/error.h"

/* What has changed from point "from" on, up to "to" (not included), in clusters
 * of the backup: a bitmap whose words are the caller's to free, whatever is
 * returned.  "size" is that of the disk at "to", bytes.  0, or -1 with the error
 * set: ENOENT if there is no point "from" any more; ENOMEM.
 */
extern int increment_changes (struct engine *engine,
                              const struct snapshot *snap,
                              const struct points_entry *from, uint64_t to,
                              uint64_t size, struct bitmap *bits,
                              struct error *e);

/* Compare the target of a live backup with the disk, in some clusters that have
 * not changed since the point whose image it is said to hold: those that tell
 * the image from that of an older point come first.  "changed" has those which
 * have.  0, or -1 with the error set: EINVAL if one differs.  It proves
 * nothing; it finds what was mixed up.
 */
extern int increment_compare (struct engine *engine,
                              const struct snapshot *snap,
                              const struct points_entry *point,
                              const struct bitmap *changed, struct error *e);

#endif /* CBW_INCREMENT_COMPARE_H */
