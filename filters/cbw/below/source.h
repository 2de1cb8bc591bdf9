/* SPDX-License-Identifier: BSD-3-Clause */

/* The source: the layer below the filter, seen through one of nbdkit's
 * contexts.  All data calls into that layer go through here, so that they
 * take the serialising mutex where the thread model asks for it: nbdkit
 * serialises only what comes from clients, not our service threads.
 *
 * The mutex is held for the call below and nothing else; nobody waits for
 * a copy or the gate with it.
 */

#ifndef CBW_SOURCE_H
#define CBW_SOURCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "below/disk.h"

struct source {
  struct disk *disk;            /* read through its context in use ... */
  nbdkit_next *next;            /* ... or this one, if it is not NULL, up to
                                 * "size", or with no disk everywhere */
  uint64_t size;                /* bytes */
  pthread_mutex_t *serial;      /* NULL: the layer below is parallel */
};

/* Take "serial" (if there is one) until the end of the scope. */
#define SOURCE_LOCK_FOR_SCOPE(source) LOCK_FOR_SCOPE ((source)->serial)

/* What a background context can do, asked once when it is opened. */
struct source_info {
  uint64_t size;                /* bytes */
  uint32_t minimum_block, preferred_block, maximum_block; /* or 0 */
  bool can_extents;
  bool can_cache;
  bool local;                   /* plugin.h; false until somebody sets it */
};

/* Ask a context, which has been prepared, what it can do: nbdkit wants that
 * before the data calls.  0, or -1 after nbdkit_error.
 */
extern int source_describe (nbdkit_next *next, struct source_info *info);

/* Read count bytes at offset.  Returns 0 or an errno. */
extern int source_pread (const struct source *s, void *buf, uint32_t count,
                         uint64_t offset);

/* Prefetch.  Returns 0 or an errno. */
extern int source_cache (const struct source *s, uint32_t count,
                         uint64_t offset);

/* The extents of the range, freed with nbdkit_extents_free, or NULL after
 * an error (*err).  With "one", just the first.  They start at offset and
 * may end early, but there is at least one.  The last may go on up to
 * "limit", if it is as long as that.
 */
extern struct nbdkit_extents *source_extents (const struct source *s,
                                              uint32_t count, uint64_t offset,
                                              uint64_t limit, bool one,
                                              int *err);

/* How many bytes from offset on, up to count, are of one kind?  *zero if
 * they surely read as zeroes.  0 if unknown.
 */
extern uint64_t source_extent (const struct source *s, uint64_t count,
                               uint64_t offset, bool *zero);

/* How many bytes from offset on, up to count, surely read as zeroes
 * without being read?  0 if unknown.
 */
extern uint64_t source_zeroes (const struct source *s, uint64_t count,
                               uint64_t offset);

#endif /* CBW_SOURCE_H */
