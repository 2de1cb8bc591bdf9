/* SPDX-License-Identifier: BSD-3-Clause */

/* Which file is the source?  Clients may read it themselves, if nbdkit's file
 * plugin serves one local file with nothing between it and this filter.  In
 * all other cases nothing is known.
 *
 * It is found out when the first context of the disk is opened, when there
 * are no guests yet, and looked at again when the disk has grown.  What is
 * known then is the file that the plugin has open for that context, whatever
 * its path leads to later.  docs/correctness.md, section 24, has the argument.
 */

#ifndef CBW_SOURCE_FILE_H
#define CBW_SOURCE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <nbdkit-filter.h>

#include "below/descriptors.h"
#include "utils/error.h"

struct source_file {
  _Atomic (bool) known;         /* once it is false again it stays so */
  bool kept;                    /* no client is to read it, all the same */
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

/* A context that reads the disk, of "size" bytes, has been opened; "before" it
 * these descriptors were open.  Find the file: 0; or -1 with the error set,
 * which says why it is not known.  "minimum_block" is the disk's, or 0.
 */
extern int source_file_find (struct source_file *f, nbdkit_next *next,
                             uint64_t size, uint32_t minimum_block,
                             const struct descriptors *before,
                             struct error *e);

/* Another context has been opened, while guests open theirs, and others their
 * files.  Is it of the file that is known?  0; or -1 with the error set if
 * that is not sure.
 */
extern int source_file_check (const struct source_file *f,
                              const struct descriptors *before,
                              struct error *e);

/* Where the file can be found now, for all that the kernel says; "" if it says
 * nothing.  "size" is that of "path".
 */
extern void source_file_path (const struct source_file *f, char *path,
                              size_t size);

#endif /* CBW_SOURCE_FILE_H */
