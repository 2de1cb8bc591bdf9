/* SPDX-License-Identifier: BSD-3-Clause */

/* The source: the layer below the filter, as an image that can be read.  It
 * is seen through one of nbdkit's contexts.  All data calls into that layer go
 * through here, so that they take the serialising mutex where the thread model
 * asks for it: nbdkit serialises only what comes from clients, not our service
 * threads.
 *
 * The mutex is held for the call below and nothing else; no thread waits for
 * a copy or the gate with it.
 */

#ifndef CBW_SOURCE_H
#define CBW_SOURCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "below/disk.h"
#include "image/image.h"

struct source {
  struct image image;           /* first; it can be read, and nothing else */
  struct disk *disk;            /* read through its context in use ... */
  nbdkit_next *next;            /* ... or this one, if it is not NULL, up to
                                 * "size", or with no disk everywhere */
  uint64_t size;                /* bytes */
  pthread_mutex_t *serial;      /* NULL: the layer below is parallel */
};

/* The disk as it is read through its context in use. */
extern struct source source_of_disk (struct disk *disk);

/* The disk as it is read through "next", of "size" bytes, and beyond these
 * through its context in use; or with disk NULL, through "next" alone.
 */
extern struct source source_of_context (nbdkit_next *next, uint64_t size,
                                        struct disk *disk,
                                        pthread_mutex_t *serial);

/* Take "serial" (if there is one) until the end of the scope. */
#define SOURCE_LOCK_FOR_SCOPE(source) LOCK_FOR_SCOPE ((source)->serial)

/* What a background context can do, asked once when it is opened. */
struct source_info {
  uint64_t size;                /* bytes */
  uint32_t minimum_block, preferred_block, maximum_block; /* or 0 */
  bool can_extents;
  bool can_cache;
  bool local, kept;             /* plugin.h; false until somebody sets them */
};

/* Ask a context, which has been prepared, what it can do: nbdkit wants that
 * before the data calls.  0, or -1 after nbdkit_error.
 */
extern int source_describe (nbdkit_next *next, struct source_info *info);

/* Is it never flushed (plugin_writes_at_flush)?  Then false. */
extern bool source_may_flush (const struct source *s);

/* Flush the disk: what guests' changes that have ended have done comes to stable
 * storage.  0, or -1 with the error set: EOPNOTSUPP if the plugin cannot.
 * *through tells its context from others.
 */
extern int source_flush (const struct source *s, void **through,
                         struct error *e);

/* Prefetch.  Returns 0 or an errno. */
extern int source_cache (const struct source *s, uint32_t count,
                         uint64_t offset);

#endif /* CBW_SOURCE_H */
