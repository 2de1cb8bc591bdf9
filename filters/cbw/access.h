/* SPDX-License-Identifier: BSD-3-Clause */

/* The access file: which areas of a snapshot may be read.
 *
 * A line holds OFFSET LENGTH in bytes (decimal, or hexadecimal with 0x, or
 * with a suffix k, M, G, T); what follows a # is a comment.  Areas must not
 * overlap nor end past the disk.
 */

#ifndef CBW_ACCESS_H
#define CBW_ACCESS_H

#include <stdint.h>

#include "bitmap.h"
#include "error.h"

/* Set the bits of all clusters that the areas touch, on a disk of "size"
 * bytes.  0, or -1 with the error set, which names the file and line; some
 * bits may be set then.
 */
extern int access_load (const char *path, uint64_t size,
                        uint32_t cluster_size, const struct bitmap *access,
                        struct error *e);

/* Look for what is wrong with the file whatever the disk. */
extern int access_check (const char *path, struct error *e);

#endif /* CBW_ACCESS_H */
