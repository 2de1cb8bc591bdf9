/* SPDX-License-Identifier: BSD-3-Clause */

/* Which file is the source?  Clients may read it themselves, if that is known.
 * (It is not yet.)
 */

#ifndef CBW_SOURCE_FILE_H
#define CBW_SOURCE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct source_file {
  _Atomic (bool) known;         /* once it is false again it stays so */
  /* The rest does not change while it is known. */
  int fd;                       /* the plugin's, open as long as the disk is */
  dev_t device, rdev;
  uint64_t inode;
};

static inline bool
source_file_is_known (const struct source_file *f)
{
  return atomic_load (&f->known);
}

/* Where the file can be found now, for all that the kernel says; "" if it says
 * nothing.  "size" is that of "path".
 */
extern void source_file_path (const struct source_file *f, char *path,
                              size_t size);

#endif /* CBW_SOURCE_FILE_H */
