/* SPDX-License-Identifier: BSD-3-Clause */

/* The segment as a file: opening it, and telling whether it can be one of
 * ours.
 *
 * A user who can write to the segment can name files for the server to make,
 * and one who can read it has the guests' data.  So nothing uses a segment
 * that another user owns, or may open, or may have put where it is found.  The
 * open file is checked, as its name may lead elsewhere a moment later.
 */

#ifndef CBW_SEGMENT_FILE_H
#define CBW_SEGMENT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

/* Open the file at path, which is no symbolic link, without waiting and
 * without making it.  "flags" is O_RDONLY or O_RDWR.  Returns a descriptor
 * for the caller to close, or -1 with the error set, ENOENT if there is
 * nothing.
 */
extern int segment_file_open (const char *path, int flags, struct error *e);

/* Read what there is of the header of the file open at fd; the rest is
 * zeroes.  *file_size is in bytes.  -1 with the error set if it cannot be
 * read or is no regular file.  Nothing in the header is checked.
 */
extern int segment_file_header (int fd, const char *path,
                                struct cbw_header *h, uint64_t *file_size,
                                struct error *e);

/* Which files may be used. */
enum segment_owner {
  SEGMENT_OURS,                 /* those of our own user */
  SEGMENT_OURS_OR_ROOT_ASKS     /* and if that is root, those of any user */
};

/* Is the file open at fd a segment, whole or unfinished, with nobody but
 * its owner able to open it, and nobody but one name for it?  Returns 0
 * with *h and *file_size as of segment_file_header, or -1 with the error
 * set: EPERM if it is a segment that must not be used.
 */
extern int segment_file_check (int fd, const char *path,
                               enum segment_owner owner,
                               struct cbw_header *h, uint64_t *file_size,
                               struct error *e);

#endif /* CBW_SEGMENT_FILE_H */
