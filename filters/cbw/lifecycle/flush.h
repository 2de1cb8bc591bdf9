/* SPDX-License-Identifier: BSD-3-Clause */

/* Flushing all targets when the server stops. */

#ifndef CBW_FLUSH_H
#define CBW_FLUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/chain.h"

struct flush;

/* Begin to bring what the targets of the current chain have been given to
 * stable storage, all at once; and "disk", if it is not NULL.  NULL (after
 * log_error) if there is no memory; the functions below take that for a flush
 * of which nothing is known.
 */
extern struct flush *flush_start (struct chain_head *head,
                                  struct image *disk);

/* As in threads.h; the threads end by themselves. */
extern bool flush_join (struct flush *f, uint64_t until);
extern void flush_free (struct flush *f);

/* After the last join: see what has become of it.  A target whose flush
 * failed is lost for all snapshots that are read from it, as the kernel tells
 * once of what it could not write.  Returns false, with a message for each,
 * if there are targets of which nobody knows.
 */
extern bool flush_known (struct flush *f);

/* The last join has returned false: leave the threads that are stuck. */
extern void flush_leave (struct flush *f);

#endif /* CBW_FLUSH_H */
