/* SPDX-License-Identifier: BSD-3-Clause */

/* A segment in the hands of its one owner, the filter: made or taken over,
 * published, left.
 *
 * Who makes a segment writes its magic number first and sets
 * header->state last, so that at every moment the file is empty,
 * recognisably unfinished, or whole.
 *
 * In the order in which a server calls them: segment_probe, before it goes
 * into the background; segment_serve, segment_begin, segment_publish; and
 * segment_stop, segment_close.
 */

#ifndef CBW_SEGMENT_SERVER_H
#define CBW_SEGMENT_SERVER_H

#include <stdint.h>

#include "segment/segment.h"
#include "utils/error.h"

/* Could a server take this segment?  Looks, without changing anything,
 * for what can be told before the disk is open: a foreign or corrupt
 * file, one that other users own or may open (EPERM), a live server
 * (EBUSY, naming its pid), a directory that is not there.  As nbdkit -u
 * changes the user after this, root is not refused another user's: that is
 * for segment_serve.  Returns 0 or -1 with the error set.
 */
extern int segment_probe (const char *path, struct error *e);

/* Become the server of the segment at "path": make it for disk_size and
 * cluster_size, with a write-back buffer of nr_cells clusters, if it does
 * not exist, or take over what an earlier server left.  Then the caller
 * sees to it that the two fit together; the geometry of an existing segment
 * is not changed.  Takes the server's lock and maps the largest size the
 * file can have.  A fresh one has mode 0600, whatever the umask; one that
 * another user owns or may open is refused (EPERM).  Nobody can attach to a
 * fresh segment before segment_publish.  *s is SEGMENT_INIT; 0, or -1 with
 * the error set and *s as it was.
 */
extern int segment_serve (struct segment *s, const char *path,
                          uint64_t disk_size, uint32_t cluster_size,
                          uint32_t nr_cells, struct error *e);

/* The server is about to change what the segment holds: from now on it is
 * not clean, if the host should go down.  What an earlier server left in
 * the request list can be taken; service threads have not been started.
 * -1 with the error set if the flag could not be written to disk: then
 * nothing may be changed.
 */
extern int segment_begin (struct segment *s, struct error *e);

/* The segment is ready for clients: fill in who serves it.  After
 * segment_begin.
 */
extern void segment_publish (struct segment *s);

/* Have space for a part of the file, so that no access can raise SIGBUS;
 * "what" it is for is said in the message.  0, or -1 with the error set.
 */
extern int segment_allocate (const struct segment *s, uint64_t offset,
                             uint64_t size, const char *what,
                             struct error *e);

/* Allocate the first "nr" kinds of bitmaps of snapshot entry i, cleared; once
 * it has some, they stay where they are.  Space is really there afterwards,
 * so that no access can raise SIGBUS.
 */
extern int segment_allocate_bitmaps (struct segment *s, unsigned i,
                                     unsigned nr, struct error *e);

/* The same of the changed bitmap of point i. */
extern int segment_allocate_changed (struct segment *s, unsigned i,
                                     struct error *e);

/* Have the hot bitmap; what there is of one stays as it is. */
extern int segment_allocate_hot (struct segment *s, struct error *e);

/* Bring the hot bitmap, or all of the segment, to stable storage; a segment in
 * memory has none.  Returns 0 or an errno.  After one that failed, the next one
 * writes the tables and the hot bitmap again, all of them.
 */
extern int segment_sync_hot (struct segment *s);
extern int segment_write_back (struct segment *s);

/* The server ends in good order: everything is written back, then the
 * clean flag.  Clients are woken.  -1 with the error set if it could not be
 * written back: then all is done but for the flag.
 */
extern int segment_stop (struct segment *s, struct error *e);

#endif /* CBW_SEGMENT_SERVER_H */
