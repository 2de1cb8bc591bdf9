/* SPDX-License-Identifier: BSD-3-Clause */

/* The bitmap directory: where the bitmaps are.
 *
 * Nobody uses a record of the segment itself, as others may write there.  A
 * program copies the directory, checks the copy, and uses the copy.  A record
 * in use never changes, so what a copy says of one stays true.
 */

#ifndef CBW_DIRECTORY_H
#define CBW_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

struct directory {
  struct cbw_bitmap_record records[CBW_NR_BITMAPS];
};

/* Copy the directory as it is now; nothing is checked. */
extern void directory_copy (const struct cbw_map *m, struct directory *d);

#define DIRECTORY_TEXT_MAX 160

/* Is something wrong with record i of a copy, if the file has file_size
 * bytes?  Returns true with what it is in "text", which has room for
 * DIRECTORY_TEXT_MAX bytes.  A record whose kind or
 * owner is unknown is fine, if it lies where nothing else does.
 */
extern bool directory_problem (const struct directory *d, unsigned i,
                               const struct cbw_geometry *g,
                               uint64_t file_size, char *text, size_t len);

/* Let map_bitmap and its like find the bitmaps which the good records of the
 * copy tell of.
 */
extern void directory_find (const struct directory *d, uint64_t file_size,
                            struct cbw_map *m);

/* How many bytes a bitmap of a kind that this program uses takes: whole pages. */
extern uint64_t directory_bitmap_size (enum cbw_bitmap_kind kind,
                                       const struct cbw_geometry *g);

/* A bitmap of that kind is to be added: find a record for it, *i, and the first
 * place where nothing lies, *offset.  "d" is good as a whole.  Returns false if
 * no record is free.
 */
extern bool directory_place (const struct directory *d,
                             const struct cbw_geometry *g,
                             enum cbw_bitmap_kind kind, unsigned *i,
                             uint64_t *offset);

/* Add a bitmap, of a kind and owner that this program uses, as record i, to
 * the copy and to the segment, and let map_bitmap or its like find it.  The
 * space is there and is cleared.  Only the server calls this.
 */
extern void directory_add (struct directory *d, struct cbw_map *m, unsigned i,
                           enum cbw_bitmap_owner owner_kind, unsigned owner,
                           enum cbw_bitmap_kind kind, uint64_t offset);

#endif /* CBW_DIRECTORY_H */
