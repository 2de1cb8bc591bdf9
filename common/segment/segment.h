/* SPDX-License-Identifier: BSD-3-Clause */

/* A segment file, mapped, as everybody knows it: attached as a client, or
 * only looked at.  How the one process that serves it makes it or takes it
 * over is in segment-server.h.
 */

#ifndef CBW_SEGMENT_H
#define CBW_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

struct segment {
  char *path;
  int fd;                       /* holds our liveness lock */
  struct cbw_map map;
  size_t mapped;                /* bytes */
  struct directory *directory;  /* server: its own, checked copy */
  bool directory_is_new;        /* server: that in the segment may not be on
                                 * disk yet */
  bool fresh;                   /* server: made now, not taken over */
  _Atomic (bool) unwritten;     /* server: it could not be written to disk */
};

#define SEGMENT_INIT { .fd = -1 }

/* The path of the segment a user calls "name": a name without "/" is
 * POSIX shared memory.  Returns a malloc'd string, or NULL with the error
 * set if the name is not usable.
 */
extern char *segment_path (const char *name, struct error *e);

/* Are there the first "nr" kinds of bitmaps of entry i?  Then map_bitmap finds
 * them.  For the server, which knows by its own copy of the directory.
 */
extern bool segment_has_bitmaps (const struct segment *s, unsigned i,
                                 unsigned nr);

/* The same for those who look at the segment: reads the directory, which the
 * server may have added to.
 */
extern bool segment_find_bitmaps (struct segment *s, unsigned i, unsigned nr);

/* Where the changed bitmaps of points are, in bytes from the start of the file;
 * 0: there is none.  For those who read the file and map no bitmaps.  0, or -1
 * with the error set.
 */
extern int segment_find_changed (const struct segment *s,
                                 uint64_t places[CBW_NR_POINTS],
                                 struct error *e);

/* How much to map of a file of file_size bytes: all of it, and the bitmaps
 * that a server may add.
 */
extern size_t segment_mapping (const struct cbw_geometry *g,
                               uint64_t file_size);

/* Is the segment on a file system that forgets everything at reboot? */
extern bool segment_is_volatile (const struct segment *s);

/* Would it be, at this path? */
extern bool segment_path_is_volatile (const char *path);

/* Attach as a client: read-only but for the shared window.  Errors:
 * EAGAIN when no server has published it yet (even if there is no file),
 * EPERM if another user owns the segment or may open it, and others.  All
 * but EAGAIN are final.
 */
extern int segment_attach (struct segment *s, const char *path,
                           struct error *e);

/* Find out before the fork if segment_attach will succeed.  nbdkit -u
 * changes the user in between, so root is not refused another user's.
 */
extern int segment_try_attach (struct segment *s, const char *path,
                               struct error *e);

/* Look at a segment, whether it is served or not: everything is mapped
 * read-only, the bitmaps too, and nobody notices.  The mapping is as large
 * as the file can become: ask segment_find_bitmaps before touching those of
 * an entry.  Root may look at the segments of all users.  Errors: EAGAIN if
 * it is not made yet, ENOENT, EPERM as of segment_attach, and others.
 */
extern int segment_look (struct segment *s, const char *path,
                         struct error *e);

/* Unmap, and close the file, which gives up the liveness lock.  Safe on
 * SEGMENT_INIT and if called twice.  With "discard" the file is removed:
 * for a fresh segment whose server failed to start.
 */
extern void segment_close (struct segment *s, bool discard);

/* The id of the running boot of this host, 16 bytes; zeroes if unknown. */
extern void segment_boot_id (uint8_t id[16]);

#endif /* CBW_SEGMENT_H */
