/* SPDX-License-Identifier: BSD-3-Clause */

/* An entry of the snapshot table, for programs that only read it.
 *
 * The filter may change an entry at any moment, and the segment may be
 * damaged: so an entry is copied until its state was the same before and
 * after, and the copy used only if its checksum is right.
 */

#ifndef CBW_ENTRY_H
#define CBW_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

struct snapshot_info {
  unsigned index;
  enum cbw_snapshot_state state; /* LIVE or BROKEN, if seen by users */
  uint64_t id;
  uint64_t size;                /* bytes */
  uint64_t created_ns;
  char name[CBW_NAME_MAX];
  int error_num;                /* the first failure, broken or not; or 0 */
  enum cbw_broken_reason error_reason;
  uint64_t error_offset;
  bool complete;                /* a backup whose image is whole: it cannot be
                                 * read here any more */
};

/* Copy entry i.  Returns false if no snapshot is to be seen there. */
extern bool entry_read (const struct cbw_map *m, unsigned i,
                        struct snapshot_info *info);

/* Copy all of entry i, of whatever state but empty: hidden ones and
 * reservations too.  Returns false if it is empty or damaged.
 */
extern bool entry_copy (const struct cbw_map *m, unsigned i,
                        struct cbw_snapshot *copy);

/* What a copy of entry i says, for entry_describe and others. */
extern void entry_info (const struct cbw_snapshot *copy, unsigned i,
                        struct snapshot_info *info);

/* Is it a backup whose image is whole, whatever kind of job has filled it?
 * Then the image is the user's.
 */
extern bool entry_is_complete (const struct cbw_snapshot *copy);

/* Find the snapshot called "name", or with NULL any that can be read; the
 * newest of them.  (A backup's result may have the name of a newer one for a
 * moment.)
 */
extern bool entry_find (const struct cbw_map *m, const char *name,
                        struct snapshot_info *info);

/* The checksum that belongs into entry->sum. */
extern uint64_t entry_sum (const struct cbw_snapshot *entry);

/* Room for the path of a target, moved aside or not. */
#define ENTRY_TARGET_MAX (CBW_TARGET_MAX + 32)

/* Where the target of a dropped snapshot is moved to while an older one
 * needs it, so that another snapshot may have its name and its target's:
 * "TARGET.dropped-ID".
 */
extern void entry_hidden_target (const struct cbw_snapshot *entry,
                                 char path[ENTRY_TARGET_MAX]);

/* Where the image of a backup is until it is whole: "TARGET.partial-XXXXXXXX",
 * with hexadecimal digits of its uuid. */
extern void entry_partial_target (const struct cbw_snapshot *entry,
                                  char path[ENTRY_TARGET_MAX]);

/* Where the target of an entry in this state is now: of the places where it
 * may be, the one where its file is found.
 */
extern void entry_target (const struct cbw_snapshot *entry,
                          enum cbw_snapshot_state state,
                          char path[ENTRY_TARGET_MAX]);

/* Is the name good?  1 to 63 bytes of UTF-8 without "/", control
 * characters or "..", so that it can be an export name and part of a file
 * name.
 */
extern int entry_check_name (const char *name, struct error *e);

/* The state in words, for people: "live", "broken: ..." and so on. */
extern void entry_describe (const struct snapshot_info *info,
                            char *buf, size_t len);

#endif /* CBW_ENTRY_H */
