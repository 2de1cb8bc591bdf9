/* SPDX-License-Identifier: BSD-3-Clause */

/* The descriptors that this process has open, and which of them are new. */

#ifndef CBW_DESCRIPTORS_H
#define CBW_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct descriptor {
  int fd;
  mode_t type;                  /* S_IFREG and the like */
  dev_t device, rdev;           /* of the file */
  uint64_t inode;
};

struct descriptors {
  struct descriptor *list;
  size_t nr;
  int err;                      /* 0, or why they cannot be listed */
};

/* List them.  What other threads open and close meanwhile may be in the list,
 * or not.  No file system is asked for anything, so that one that hangs holds
 * nobody.
 */
extern void descriptors_get (struct descriptors *d);
extern void descriptors_free (struct descriptors *d);

#define CLEANUP_DESCRIPTORS __attribute__ ((cleanup (descriptors_free)))

/* List those that are open now, and were not "before", which has been listed.
 * One that has another file now was not.
 */
extern void descriptors_get_new (struct descriptors *d,
                                const struct descriptors *before);

/* Is it a file that data can be read from? */
extern bool descriptor_is_file (const struct descriptor *d);

#endif /* CBW_DESCRIPTORS_H */
