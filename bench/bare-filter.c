/* SPDX-License-Identifier: BSD-3-Clause */

/* The least work that a copy before a write can be, as a peer for the bench.
 * For each write, this filter reads the range from below, in whole clusters,
 * writes it to the file "bare-target", and passes the write on.  It keeps no
 * bits, takes no lock and promises nothing: it copies a cluster again
 * whenever that is written again.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-filter.h>

/* As large as a piece of the filter that is measured. */
#define PIECE (512 * 1024)

static int target = -1;
static uint64_t cluster_size = 4096;

static int
bare_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
             const char *key, const char *value)
{
  if (strcmp (key, "bare-cluster-size") == 0) {
    cluster_size = strtoull (value, NULL, 10);
    return 0;
  }
  if (strcmp (key, "bare-target") != 0)
    return next (nxdata, key, value);
  target = open (value, O_WRONLY | O_CLOEXEC);
  if (target == -1)
    nbdkit_error ("bare-target=%s: %m", value);
  return target == -1 ? -1 : 0;
}

static int
copy (nbdkit_next *next, uint64_t offset, uint64_t end, int *err)
{
  static _Thread_local unsigned char old[PIECE];
  uint32_t count;

  for (; offset < end; offset += count) {
    count = (uint32_t) (end - offset < PIECE ? end - offset : PIECE);
    if (next->pread (next, old, count, offset, 0, err) == -1)
      return -1;
    if (pwrite (target, old, count, (off_t) offset) != (ssize_t) count) {
      *err = EIO;
      return -1;
    }
  }
  return 0;
}

static int
bare_pwrite (nbdkit_next *next, void *handle __attribute__ ((unused)),
             const void *buf, uint32_t count, uint64_t offset, uint32_t flags,
             int *err)
{
  const uint64_t mask = cluster_size - 1;

  if (copy (next, offset & ~mask, (offset + count + mask) & ~mask, err) == -1)
    return -1;
  return next->pwrite (next, buf, count, offset, flags, err);
}

static struct nbdkit_filter filter = {
  .name = "bare",
  .config = bare_config,
  .pwrite = bare_pwrite,
};

NBDKIT_REGISTER_FILTER (filter)
