/* SPDX-License-Identifier: BSD-3-Clause */

/* A backup that the server makes, as cbwctl sees it: an entry of the
 * snapshot table.
 */

#ifndef CBW_BACKUP_H
#define CBW_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "request/client.h"
#include "segment/layout.h"
#include "utils/error.h"

/* A copy of a backup's entry, and where it is. */
struct backup {
  unsigned index;
  struct cbw_snapshot entry;
};

/* How many clusters of it are whole in its target, of how many? */
extern uint64_t backup_settled (const struct cbw_snapshot *entry);
extern uint64_t backup_clusters (const struct cbw_map *m,
                                 const struct cbw_snapshot *entry);

/* What went wrong, for people. */
extern const char *backup_error (const struct cbw_snapshot *entry,
                                 char *buf, size_t len);

/* Did the backup become complete before it was dropped?  What the entry says
 * is final then, and stays until another snapshot takes the entry.
 */
extern bool backup_was_complete (const struct client *client,
                                 const struct backup *backup);

/* Wait for the end of the backup, showing its progress if stdout is a
 * terminal.  Then let go of it: the image is kept if it is complete, else
 * removed.  A signal cancels it.  Returns the exit status, having said how
 * it ended.
 */
extern int backup_follow (struct client *client, const struct backup *backup,
                          bool json);

#endif /* CBW_BACKUP_H */
