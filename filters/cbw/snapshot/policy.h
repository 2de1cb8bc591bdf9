/* SPDX-License-Identifier: BSD-3-Clause */

/* What an error of a copy means: to the guest's change that needed it, or to
 * the backup that it was made for.
 */

#ifndef CBW_POLICY_H
#define CBW_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/snapshot.h"

/* Does this errno say that the target is full?  Then room may be made. */
extern bool policy_is_full (int num);

/* A copy failed with this errno.  Is space to be waited for, when that has
 * taken stalled_ns already?
 */
extern bool policy_stalls (const struct snapshot *snap, int num,
                           uint64_t stalled_ns);

/* A guest's write, or a drain thread, which has waited for stalled_ns already,
 * waits for space in the target; or no longer does.
 */
extern void policy_stall (struct snapshot *snap, uint64_t stalled_ns);
extern void policy_unstall (struct snapshot *snap);

/* A copy that the snapshot needed failed.  Records it, and does what the
 * snapshot's policy says: breaks it and returns 0, or returns the errno
 * with which the guest's write must fail.
 */
extern int policy_copy_failed (struct snapshot *snap, int num,
                               uint64_t offset, const char *msg);

/* What is a backup to do about this error of reading, or of writing?  Never
 * CBW_FILL_ENOSPC, which depends on the errno.
 */
extern enum cbw_on_fill_error policy_of_backup (const struct snapshot *snap,
                                                bool is_read, int num);

/* With the write-back buffer guests' writes end before their old data is in
 * the target, and cannot fail with it.  Can these options be kept then?
 */
extern bool policy_allows_writeback (const struct cbw_options *options);

#endif /* CBW_POLICY_H */
