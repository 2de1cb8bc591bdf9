/* SPDX-License-Identifier: BSD-3-Clause */

/* What is looked at while guests' changes are drained.  Whatever a guest's
 * connection has found out about the disk before it made a change is seen
 * here, as that change is over.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "below/disk.h"
#include "guest/cut.h"
#include "guest/suspects.h"

/* Is the disk that guests see of the size that was found before? */
static int
check_size (struct disk *d, uint64_t found, struct error *e)
{
  const uint64_t size = disk_size (d), seen = atomic_load (&d->seen);

  if (size > found)
    return error_set (e, EAGAIN, "the disk has grown from %" PRIu64 " to %"
                      PRIu64 " bytes just now; try again", found, size);
  if (seen > size && d->backend == NULL)
    return error_set (e, EFBIG, "the disk has grown to %" PRIu64 " bytes, and "
                      "with cbw-export= only a client that reads or writes it "
                      "shows the filter more than %" PRIu64 " of them; let one "
                      "connect anew and do so, then try again", seen, size);
  if (seen > size)
    return error_set (e, EFBIG, "a client sees a disk of %" PRIu64 " bytes, and "
                      "the filter one of %" PRIu64 "; if it was made smaller, "
                      "start the server anew", seen, size);
  return 0;
}

int
cut_check (struct engine *e, struct snapshot *snap, uint64_t size,
           struct error *error)
{
  struct disk *d = e->source.disk;

  if (d && atomic_load (&d->apart))
    return error_set (error, EINVAL, "this plugin gives each connection a disk "
                      "(or a cache) of its own, so a snapshot would not be of "
                      "the disk that a guest has; it cannot be protected");
  if (d && check_size (d, size, error) == -1)
    return -1;
  return snap ? suspects_copy (e, snap, error) : 0;
}
