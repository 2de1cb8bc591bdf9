/* SPDX-License-Identifier: BSD-3-Clause */

/* Exports "A..B": snapshot B, whose extents say what has changed since point A
 * (segment/delta.h).  Connections that have one delta open share its bitmap.
 *
 * All functions may be called by many threads at once.
 */

#ifndef CBW_DELTA_EXPORT_H
#define CBW_DELTA_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/delta.h"

struct delta_export {
  struct delta delta;           /* fixed; its "to" is as of the first open */
  uint64_t bytes;               /* delta_bytes */

  unsigned refs;                /* delta-export.c's lock is held */
  struct delta_export *next;    /* of all that are open */
};

/* Read the delta of that name; *to is snapshot B as it is now.  Returns a
 * reference to it, or to an equal one that is open already; or NULL with the
 * error set as by delta_read.
 */
extern struct delta_export *delta_export_open (const struct segment *s,
                                               const char *name,
                                               struct snapshot_info *to,
                                               struct error *e);

/* Give a reference up; the last one frees the bitmap. */
extern void delta_export_close (struct delta_export *x);

/* Room for the name of a delta, and for what is said of it. */
#define DELTA_NAME_MAX (2 * CBW_NAME_MAX + 2)
#define DELTA_TEXT_MAX (2 * CBW_NAME_MAX + 128)

/* How a delta appears in the list of exports. */
struct delta_listed {
  char name[DELTA_NAME_MAX];
  char text[DELTA_TEXT_MAX];
};

/* Describe the delta to live snapshot "to" from the valid point before it.
 * Returns false if there is none that could be opened by its name.  Its
 * bitmap is read the first time only.
 */
extern bool delta_export_list (const struct segment *s,
                               const struct snapshot_info *to,
                               struct delta_listed *listed);

/* Say in "buf" what the delta is: 'changes from "A" to "B", ...'.
 * DELTA_TEXT_MAX is enough.
 */
extern void delta_export_describe (const struct delta *d, uint64_t bytes,
                                   char *buf, size_t len);

/* One who can tell the extents of a part of snapshot B: ask() is like
 * request_extents.
 */
struct delta_view {
  int (*ask) (void *handle, uint32_t count, uint64_t offset,
              int (*add) (void *opaque, uint64_t offset, uint64_t length,
                          uint32_t type),
              void *opaque);
  void *handle;
};

/* Give the extents from offset on to add(), in order: CBW_EXTENT_HOLE alone
 * for what is not in the delta, and what the view says for what is.  Perhaps
 * not all of the range, but at least one; the last may go beyond the range.
 * "one": the caller needs only the first.  The range is inside the snapshot.
 * Returns 0 or an errno.
 */
extern int delta_export_extents (const struct delta *d, uint32_t count,
                                 uint64_t offset, bool one,
                                 const struct delta_view *view,
                                 int (*add) (void *opaque, uint64_t offset,
                                             uint64_t length, uint32_t type),
                                 void *opaque);

#endif /* CBW_DELTA_EXPORT_H */
