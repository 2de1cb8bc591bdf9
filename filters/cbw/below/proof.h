/* SPDX-License-Identifier: BSD-3-Clause */

/* Is the disk that a guest's connection writes the one that snapshots are
 * read from?  A plugin may give each connection a disk of its own (nbdkit's
 * tmpdisk does); then a snapshot would be of a disk that no guest has.
 *
 * A plugin that sets can_multi_conn says that all connections have one.  Of
 * others it is found out by a guest's first write that changes something: its
 * first bytes are read through both contexts, before and after.
 */

#ifndef CBW_PROOF_H
#define CBW_PROOF_H

#include <stdint.h>

#include "below/source.h"

struct proof {
  unsigned char *before;        /* of the disk that is read; NULL: no proof
                                 * can be had of this write */
  uint32_t count;
};

enum proof_result {
  PROOF_NONE,                   /* nothing is known: try the next write */
  PROOF_ONE_DISK,
  PROOF_APART,                  /* it is another disk, or cache */
};

/* "data" is about to be written at offset; its first "count" bytes are enough,
 * and may be read through "disk".
 */
extern void proof_begin (struct proof *p, struct image *disk,
                         uint64_t offset, uint32_t count, const void *data);

/* It has been written, through "own"; or has failed.  Waits 90 ms before it
 * says PROOF_APART; the caller is in the gate.
 */
extern enum proof_result proof_end (struct proof *p, struct image *disk,
                                    struct image *own, uint64_t offset,
                                    const void *data, bool failed);

#endif /* CBW_PROOF_H */
