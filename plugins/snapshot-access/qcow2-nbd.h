/* SPDX-License-Identifier: BSD-3-Clause */

/* A qemu-nbd that serves an internal snapshot. */

#ifndef CBW_QCOW2_NBD_H
#define CBW_QCOW2_NBD_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "image/qcow2/qcow2-table.h"
#include "utils/error.h"

/* Is the program there to be run? */
extern bool qcow2_nbd_installed (void);

/* Start one for the snapshot with exactly the id and the name of s, in the
 * image at "path" (absolute), without taking a lock on it.  *size is that
 * of the disk now, not the snapshot's.  It is not started again: when it
 * has ended, every request fails.  NULL with the error set on failure.
 */
extern struct image *qcow2_nbd_start (const char *path,
                                      const struct qcow2_snapshot *s,
                                      uint64_t *size, struct error *e);

#endif /* CBW_QCOW2_NBD_H */
