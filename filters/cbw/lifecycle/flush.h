/* SPDX-License-Identifier: BSD-3-Clause */

/* Flushing all targets when the server stops. */

#ifndef CBW_FLUSH_H
#define CBW_FLUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/chain.h"

enum flushed {
  FLUSH_DONE,                   /* what could not be flushed is known lost */
  FLUSH_UNKNOWN,                /* of some target nobody knows */
  FLUSH_STUCK,                  /* some flush is still under way: then nothing
                                 * of the chain may be freed */
};

struct flush;

/* Begin to bring what the targets of the current chain have been given to
 * stable storage, all at once.  NULL (after nbdkit_error) if there is no memory;
 * the functions below take that for a flush of which nothing is known.
 */
extern struct flush *flush_start (struct chain_head *head);

/* Wait until that moment (monotonic); returns whether all has ended. */
extern bool flush_wait (struct flush *f, uint64_t until);

/* Wait until that moment, and see what has become of it.  A target whose flush
 * failed is lost for all snapshots that are read from it, as the kernel tells
 * once of what it could not write.  Frees f if it can.
 */
extern enum flushed flush_end (struct flush *f, uint64_t until);

#endif /* CBW_FLUSH_H */
