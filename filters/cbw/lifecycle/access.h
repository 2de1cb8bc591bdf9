/* SPDX-License-Identifier: BSD-3-Clause */

/* The access file: which areas of a snapshot may be read.
 *
 * A line holds OFFSET LENGTH in bytes (decimal, or hexadecimal with 0x, or
 * with a suffix k, M, G, T); what follows a # is a comment.  Areas must not
 * overlap nor end past the disk.
 *
 * A client can name any file as one.  So the file must be a regular one, of
 * our own user or root; it and its lines and areas have limits; and no
 * message says what is in it, but only which line is wrong, and how.
 *
 * Nothing here takes a lock, and reading a file may take its time: the
 * caller should hold none that others need.
 */

#ifndef CBW_ACCESS_H
#define CBW_ACCESS_H

#include <stdint.h>

#include "utils/bitmap.h"
#include "utils/error.h"

#define ACCESS_FILE_MAX (16 * 1024 * 1024) /* bytes */
#define ACCESS_LINE_MAX 4096               /* bytes, without the newline */
#define ACCESS_AREAS_MAX (256 * 1024)

/* The areas of a file that was read. */
struct access_areas;

/* Read the file at path, for a disk of "size" bytes.  Returns the areas, for
 * the caller to free with access_free, or NULL with the error set, which
 * names the file and line.
 */
extern struct access_areas *access_read (const char *path, uint64_t size,
                                         struct error *e);

/* Set the bits of all clusters that the areas touch. */
extern void access_apply (const struct access_areas *areas,
                          uint32_t cluster_size, const struct bitmap *access);

/* NULL is fine. */
extern void access_free (struct access_areas *areas);

/* All of these in one.  0, or -1 with the error set and no bit set. */
extern int access_load (const char *path, uint64_t size,
                        uint32_t cluster_size, const struct bitmap *access,
                        struct error *e);

/* Look for what is wrong with the file whatever the disk, before the fork.
 * As nbdkit -u changes the user after this, root is not refused the file of
 * another user.  0, or -1 with the error set.
 */
extern int access_check (const char *path, struct error *e);

#endif /* CBW_ACCESS_H */
