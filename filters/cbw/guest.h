/* SPDX-License-Identifier: BSD-3-Clause */

/* A guest's connection to the protected disk, and what is done around each
 * of its changes: old data is preserved (engine.h), and the change noted until
 * it has ended (inflight.h).
 *
 *   guest_begin            guest_end
 *        \                    /
 *         the change goes to the layer below
 */

#ifndef CBW_GUEST_H
#define CBW_GUEST_H

#include <stdint.h>

#include <nbdkit-filter.h>

#include "disk.h"
#include "engine.h"

struct guest {
  nbdkit_next *next;            /* the connection's own context */
  uint64_t size;                /* of the disk in it, bytes */
};

/* The connection has been prepared: ask its context for what is needed here.
 * The disk is looked at again if its size is another.  0, or -1 after
 * nbdkit_error.
 */
extern int guest_prepare (struct guest *g, struct disk *disk,
                          nbdkit_next *next);

/* A change of [offset, offset+count). */
struct change {
  uint64_t offset;
  uint32_t count;
  enum guest_op op;
  const void *data;             /* of a write */

  unsigned ticket;              /* of the gate */
  struct cbw_inflight *record;  /* where it is noted */
};

/* The change begins.  0; or an errno with which it must fail, and then there
 * is no guest_end.
 */
extern int guest_begin (struct guest *g, struct engine *engine,
                        struct disk *disk, struct change *c);

/* The layer below has answered, with 0 or an errno. */
extern void guest_end (struct guest *g, struct engine *engine,
                       struct change *c, int err);

#endif /* CBW_GUEST_H */
