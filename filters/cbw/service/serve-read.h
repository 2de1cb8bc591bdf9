/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a snapshot of the engine's chain: what the steps of common/view need
 * beside them.  Service threads call this.
 *
 * Every function takes the snapshot by id and checks the range, and returns 0
 * or the errno for the client (view/read.h); ESHUTDOWN even if there never was
 * such a snapshot.
 */

#ifndef CBW_SERVE_READ_H
#define CBW_SERVE_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "guest/engine.h"
#include "segment/layout.h"

/* The data of [offset, offset+count) into buf. */
extern int serve_read (struct engine *e, struct image *source, uint64_t id,
                       void *buf, uint64_t count, uint64_t offset);

/* The extents from offset on: up to CBW_EXTENTS_MAX, so perhaps not all of the
 * range, but at least one; the last may reach beyond the range.  *nr is their
 * number.  "can_extents": the source can be asked for its own.
 */
extern int serve_extents (struct engine *e, struct image *source, uint64_t id,
                          uint64_t count, uint64_t offset, bool can_extents,
                          struct cbw_extent *extents, uint32_t *nr);

/* Prefetch what of the range comes from the source. */
extern int serve_cache (struct engine *e, const struct source *source,
                        uint64_t id, uint64_t count, uint64_t offset);

#endif /* CBW_SERVE_READ_H */
