/* SPDX-License-Identifier: BSD-3-Clause */

/* Writing the log of a server (crash-log.h): what crash-preload.c calls around
 * the calls that it wraps.  All may be called by any thread.
 */

#ifndef CBW_CRASH_RECORD_H
#define CBW_CRASH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crash-log.h"

#define CRASH_NO_FILE (-1)

/* Is anything written down?  If not, the functions below do nothing. */
extern bool crash_is_on (void);

/* What the server is to read as the id of the host's boot, a path. */
extern const char *crash_boot_id (void);

/* The number of the open file, or CRASH_NO_FILE if it is of no interest. */
extern int crash_file_of (int fd);

/* A random number below n; of each thread's own. */
extern unsigned crash_chance (unsigned n);

/* The file is about to be changed in a range, and has been.  The first returns
 * NULL, which the second ignores, if the file is of no interest.  A change
 * that makes zeroes changes no holes.  errno stays as it is in the second.
 */
extern struct crash_record *crash_begin_change (int fd, uint64_t offset,
                                                uint64_t count,
                                                bool makes_zeroes);
extern void crash_end_change (struct crash_record *r);

/* A range of the file is about to be synced, and has been. */
extern struct crash_record *crash_begin_sync (int file, uint64_t offset,
                                              uint64_t count);
extern void crash_end_sync (struct crash_record *r);

/* The server has mapped the segment: it is looked at from now on. */
extern void crash_segment_mapped (void *base, size_t len, int fd);

/* Where in the segment the address is; false: it is not in it. */
extern bool crash_in_segment (const void *address, uint64_t *offset);

#endif /* CBW_CRASH_RECORD_H */
