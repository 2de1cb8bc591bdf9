/* SPDX-License-Identifier: BSD-3-Clause */

/* Making, taking over, attaching and mapping a segment file.
 *
 * Who makes a segment writes its magic number first and sets
 * header->state last, so that at every moment the file is empty,
 * recognisably unfinished, or whole.
 */

#ifndef CBW_SEGMENT_H
#define CBW_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "layout.h"

struct segment {
  char *path;
  int fd;                       /* holds our liveness lock */
  struct cbw_map map;
  size_t mapped;                /* bytes */
  bool fresh;                   /* server: made now, not taken over */
};

#define SEGMENT_INIT { .fd = -1 }

/* The path of the segment a user calls "name": a name without "/" is
 * POSIX shared memory.  Returns a malloc'd string, or NULL with the error
 * set if the name is not usable.
 */
extern char *segment_path (const char *name, struct error *e);

/* Could a server take this segment?  Looks, without changing anything,
 * for what can be told before the disk is open: a foreign or corrupt
 * file, a live server (EBUSY, naming its pid), a directory that is not
 * there.  Returns 0 or -1 with the error set.
 */
extern int segment_probe (const char *path, struct error *e);

/* Become the server of the segment at "path": make it for disk_size and
 * cluster_size, with a write-back buffer of nr_cells clusters, if it does
 * not exist, or take over what an earlier server left.  Then the caller sees to it that the two fit together; the
 * geometry of an existing segment is not changed.  Takes the server's
 * lock and maps the largest size the file can have.  Nobody can attach to
 * a fresh segment before segment_publish.
 */
extern int segment_serve (struct segment *s, const char *path,
                          uint64_t disk_size, uint32_t cluster_size,
                          uint32_t nr_cells, struct error *e);

/* The server is about to change what the segment holds: from now on it is
 * not clean, if the host should go down.
 */
extern void segment_begin (struct segment *s);

/* The segment is ready for clients: fill in who serves it. */
extern void segment_publish (struct segment *s);

/* Allocate the bitmaps of snapshot entry i, cleared.  Space is really
 * there afterwards, so that no access can raise SIGBUS.
 */
extern int segment_allocate_bitmaps (struct segment *s, unsigned i,
                                     struct error *e);

/* Are the bitmaps of entry i inside the file? */
extern bool segment_has_bitmaps (const struct segment *s, unsigned i);

/* The server ends in good order: everything is written back, then the
 * clean flag.  Clients are woken.
 */
extern void segment_stop (struct segment *s);

/* Is the segment on a file system that forgets everything at reboot? */
extern bool segment_is_volatile (const struct segment *s);

/* Can nobody but our own user write to it?  Then what it says may be run. */
extern bool segment_is_private (const struct segment *s);

/* Attach as a client: read-only but for the shared window.  Errors:
 * EAGAIN when no server has published it yet (also if there is no file),
 * others are final.
 */
extern int segment_attach (struct segment *s, const char *path,
                           struct error *e);

/* Look at a segment, whether it is served or not: everything is mapped
 * read-only, the bitmaps too, and nobody notices.  The mapping is as large
 * as the file can become: ask segment_has_bitmaps before touching those of
 * an entry.  Errors: EAGAIN if it is not made yet, ENOENT, and others.
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
