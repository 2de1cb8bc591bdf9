/* SPDX-License-Identifier: BSD-3-Clause */

/* Snapshots as they come into the engine: made new, or brought back from
 * a segment whose earlier server has ended.
 *
 * An entry is written in state RESERVED, with its target's name in it
 * before the target is made, and becomes LIVE by one store.  A server
 * that dies in between leaves a reservation, which the next one undoes.
 */

#ifndef CBW_RESTORE_H
#define CBW_RESTORE_H

#include <stdint.h>

#include "engine.h"
#include "error.h"
#include "segment.h"

/* Take a snapshot of a disk of "size" bytes, with old data going to the
 * new raw file "target" (absolute).  Returns 0, or -1 with the error set
 * and nothing changed.
 */
extern int create_snapshot (struct engine *engine, struct segment *segment,
                            const char *name, const char *target,
                            uint64_t size, struct error *e);

/* Bring back every snapshot of a segment taken over.  One whose target is
 * gone, or that lived through an unclean reboot, comes back broken.
 * Returns -1 with EBADMSG if the table is damaged.
 */
extern int restore_snapshots (struct engine *engine, struct segment *segment,
                              struct error *e);

#endif /* CBW_RESTORE_H */
