/* SPDX-License-Identifier: BSD-3-Clause */

/* Where the snapshots come from: a segment, which a filter's server shares,
 * or a qcow2 image with internal ones.  snapshot-access.c hands nbdkit's
 * callbacks on to one of these.
 *
 * The functions have the meaning of the callbacks of the same name, see
 * nbdkit-plugin(3).  Those that can fail have called nbdkit_error then.
 * Functions that are NULL have nothing to do, or say no.
 */

#ifndef CBW_BACKEND_H
#define CBW_BACKEND_H

#include <stdint.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "params.h"

struct backend {
  /* The parameters are complete, and stay where they are. */
  int (*get_ready) (struct params *params);
  int (*after_fork) (void);
  void (*cleanup) (void);

  int (*list_exports) (struct nbdkit_exports *exports);
  const char *(*default_export) (void);

  /* Open the snapshot of that name; "" is the default.  The handle is
   * passed to the functions below, which may be called in many threads at
   * once.
   */
  void *(*open) (const char *name);
  void (*close) (void *handle);

  const char *(*export_description) (void *handle);
  int64_t (*get_size) (void *handle);
  int (*block_size) (void *handle, uint32_t *minimum, uint32_t *preferred,
                     uint32_t *maximum);
  int (*can_trim) (void *handle);
  int (*can_multi_conn) (void *handle);

  int (*pread) (void *handle, void *buf, uint32_t count, uint64_t offset);
  int (*pwrite) (void *handle, uint32_t count, uint64_t offset);
  int (*trim) (void *handle, uint32_t count, uint64_t offset);
  int (*extents) (void *handle, uint32_t count, uint64_t offset,
                  uint32_t flags, struct nbdkit_extents *extents);
  int (*cache) (void *handle, uint32_t count, uint64_t offset);
};

extern const struct backend shm_backend;
extern const struct backend qcow2_backend;

#endif /* CBW_BACKEND_H */
