/* SPDX-License-Identifier: BSD-3-Clause */

/* A guest's connection to the protected disk, and what is done around each
 * of its changes: old data is preserved (engine.h), the change noted until
 * it has ended (inflight.h), and it is made sure that it changes the disk that
 * snapshots are taken of (proof.h).
 *
 *   guest_begin            guest_end
 *        \                    /
 *         the change goes to the layer below
 */

#ifndef CBW_GUEST_H
#define CBW_GUEST_H

#include <stdint.h>

#include "below/disk.h"
#include "below/proof.h"
#include "guest/engine.h"

struct guest {
  nbdkit_next *next;            /* the connection's own context */
  uint64_t size;                /* of the disk in it, bytes */
  uint32_t minimum_block;       /* or 0 */
  _Atomic (bool) proven;        /* it is the disk that is protected */
};

/* The connection has been prepared: ask its context for what is needed here.
 * If its size differs from the disk's, look at the disk again.  Returns 0, or
 * -1 after nbdkit_error.  That the sizes still differ, and nothing says that
 * all connections have one disk, is such an error.
 */
extern int guest_prepare (struct guest *g, struct disk *disk,
                          nbdkit_next *next);

/* A change of [offset, offset+count).  It stays where it is until its end. */
struct change {
  uint64_t offset;
  uint32_t count;
  enum guest_op op;
  const void *data;             /* of a write */

  struct source source;         /* where old data is read */
  struct guest_change change;
  struct cbw_inflight *record;  /* where it is noted */
  struct proof proof;
};

/* The change begins.  0; or an errno with which it must fail, and then there
 * is no guest_end.
 */
extern int guest_begin (struct guest *g, struct engine *engine,
                        struct disk *disk, struct change *c);

/* The layer below has answered, with 0 or an errno. */
extern void guest_end (struct guest *g, struct engine *engine,
                       struct disk *disk, struct change *c, int err);

#endif /* CBW_GUEST_H */
