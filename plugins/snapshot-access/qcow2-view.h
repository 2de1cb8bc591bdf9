/* SPDX-License-Identifier: BSD-3-Clause */

/* An internal snapshot of a qcow2 image, to which another process may be
 * writing.  All connections to one snapshot share a view, and with it one
 * qemu-nbd, which is started by the first request for data and ends with
 * the last connection.
 *
 * What a view returns are the bytes of that snapshot or an error: ESHUTDOWN
 * once it is deleted, for ever, even if there is another of the same name
 * and id.  docs/correctness.md has the argument.
 *
 * Functions may be called in many threads at once.  They return -1 (NULL)
 * with the error set on failure; the message names the image.
 */

#ifndef CBW_QCOW2_VIEW_H
#define CBW_QCOW2_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/qcow2/qcow2-table.h"
#include "utils/error.h"

struct qcow2_view;

/* The snapshot of that name or id, or the newest if it is NULL.  "path" is
 * absolute.  ENOENT if there is none.
 */
extern struct qcow2_view *qcow2_view_open (const char *path,
                                           const char *name_or_id,
                                           struct error *e);
extern void qcow2_view_close (struct qcow2_view *v);

/* As it was when the view was opened, and that of the image. */
extern const struct qcow2_snapshot *
qcow2_view_snapshot (const struct qcow2_view *v);
extern uint32_t qcow2_view_cluster_size (const struct qcow2_view *v);

/* Read bytes of the snapshot; the range lies within its disk size. */
extern int qcow2_view_pread (struct qcow2_view *v, void *buf, size_t count,
                             uint64_t offset, struct error *e);

/* Called with each extent, in order and without gaps; -1 ends it. */
typedef int (*qcow2_extent_fn) (void *opaque, uint64_t offset,
                                uint64_t length, bool data);

/* What is data and what reads as zeroes in the range, or in the first part
 * of it.  What "fn" was told counts only if 0 is returned; when it returns
 * -1 the error is 0.
 */
extern int qcow2_view_extents (struct qcow2_view *v, uint64_t count,
                               uint64_t offset, qcow2_extent_fn fn,
                               void *opaque, struct error *e);

#endif /* CBW_QCOW2_VIEW_H */
