/* SPDX-License-Identifier: BSD-3-Clause */

/* Which file the source is, and how it was.  See identity.h. */

#include <config.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "below/identity.h"
#include "utils/clock.h"

struct cbw_source_identity
identity_of (const struct source_file *f)
{
  struct cbw_source_identity id = { .kind = CBW_SOURCE_UNKNOWN };
  struct stat st;

  /* Of a block device stat tells neither size nor the time of a write.  A flush
   * by fdatasync leaves the time in memory: after a power cut it would be an
   * older one.
   */
  if (source_file_is_known (f) && fsync (f->fd) == 0 &&
      fstat (f->fd, &st) == 0 && S_ISREG (st.st_mode)) {
    id.kind = CBW_SOURCE_FILE;
    id.device = st.st_dev;
    id.inode = st.st_ino;
    id.size = (uint64_t) st.st_size;
    id.mtime_ns = (uint64_t) st.st_mtim.tv_sec * NS_PER_SEC +
      (uint64_t) st.st_mtim.tv_nsec;
  }
  id.sum = layout_sum (&id, offsetof (struct cbw_source_identity, sum));
  return id;
}

bool
identity_differs (const struct cbw_source_identity *noted,
                  const struct source_file *f)
{
  const struct cbw_source_identity before = *noted, now = identity_of (f);

  if (before.kind != CBW_SOURCE_FILE || now.kind != CBW_SOURCE_FILE ||
      before.sum != layout_sum (&before, offsetof (struct cbw_source_identity,
                                                   sum)))
    return false;
  return memcmp (&before, &now, sizeof now) != 0;
}
