/* SPDX-License-Identifier: BSD-3-Clause */

/* What a crash of the host leaves of files whose servers ran with
 * crash-preload.c.
 *
 * A file that is written by calls: all changes are there that had ended when a
 * sync began which has ended, too.  Of the others, each sector or page has
 * lost any number of the last ones.  The segment: each page is what it was at
 * the beginning of the last sync of it that has ended, or at any moment since,
 * as far as those were seen.  The kernel and a disk do no more than that.
 *
 * Sizes, allocation and times of files stay what they were, as do the names in
 * directories; and so do files that are not in the log, such as targets.
 */

#ifndef CBW_CRASH_STATE_H
#define CBW_CRASH_STATE_H

#include <stdint.h>

#include "crash-log.h"

struct crash_files {
  const char *dir;              /* with the log, and the boot's id */
  const char *path[CRASH_FILES]; /* [CRASH_SEGMENT], and as in
                                  * $CBW_CRASH_FILES; NULL ends it */
};

struct crash_lost {
  uint64_t sectors;             /* of files that differ from what they were */
  uint64_t pages;               /* of the segment */
};

/* What is lost of files, and of the segment's pages. */
enum crash_luck {
  CRASH_RANDOM,                 /* of each piece, by itself */
  CRASH_ALL,                    /* all that can be */
  CRASH_NOTHING,
  CRASH_RARELY,                 /* little of it */
  CRASH_NR_LUCK
};

/* The host boots: an empty log, and another id.  No server runs. */
extern void crash_boot (const struct crash_files *files, uint64_t *seed);

/* A server was killed, and the host runs on: calls that were under way have
 * ended.  (What they have done is in the page cache.)
 */
extern void crash_server_gone (const struct crash_files *files);

/* The server that runs, or is about to start, kills itself at a moment of its
 * own, after so many (crash-log.h); 0: it does not any more.
 */
extern void crash_countdown (const struct crash_files *files, unsigned n);

/* The host has crashed, as all its servers were killed: make the files what
 * is left of them.  crash_boot is to follow.
 */
extern void crash_files_left (const struct crash_files *files,
                              enum crash_luck of_files,
                              enum crash_luck of_segment, uint64_t *seed,
                              struct crash_lost *lost);

#endif /* CBW_CRASH_STATE_H */
