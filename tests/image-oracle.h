/* SPDX-License-Identifier: BSD-3-Clause */

/* For test programs that make backups: how one stands, and what is in its
 * image.  Any thread may call these.
 */

#ifndef CBW_IMAGE_ORACLE_H
#define CBW_IMAGE_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout.h"

enum backup_stand {
  BACKUP_RUNS,                  /* or rests */
  BACKUP_COMPLETE,
  BACKUP_FAILED,
  BACKUP_GONE,                  /* the entry is free, or another's */
};

/* How does backup "id", which has or had entry "index", stand? */
extern enum backup_stand backup_look (const struct cbw_map *m, unsigned index,
                                      uint64_t id);

/* Is the image the data[size], byte for byte?  If not, why[len] says where
 * it differs, or what is wrong with the file.
 */
extern bool image_same (const char *path, const unsigned char *data,
                        uint64_t size, char *why, size_t len);

/* Write other bytes all over it.  Nobody may mind. */
extern void image_scribble (const char *path, uint64_t size, uint64_t seed);

/* Look in the directory for a file whose name contains that of the image,
 * such as one that was not finished, or was moved aside: its name into
 * found[len], or false.
 */
extern bool image_left (const char *dir, const char *image, char *found,
                        size_t len);

#endif /* CBW_IMAGE_ORACLE_H */
