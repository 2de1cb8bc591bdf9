/* SPDX-License-Identifier: BSD-3-Clause */

/* A guest writes what is there already: nothing is copied, and the clusters
 * stay claimed until the write has ended.  If it fails, the source may hold
 * anything where it was to be written, and the guest's data, being the old
 * data, is what the snapshots need.  For copy.c; the rest of it is in copy.h
 * (copy_end, copy_overlay, copy_first_uncertain).
 */

#ifndef CBW_UNCHANGED_H
#define CBW_UNCHANGED_H

#include <stdbool.h>
#include <stdint.h>

#include "copy/copy.h"

/* Is the old data of the transfer's clusters just what the guest is about to
 * write there?
 */
extern bool unchanged_is (const struct copy_job *job, const struct transfer *t,
                          const unsigned char *old);

/* Keep the last of the job's claims, or release all of them. */
extern void unchanged_keep (struct copier *c, struct copy_job *job);
extern void unchanged_release (struct copier *c, struct copy_job *job);

#endif /* CBW_UNCHANGED_H */
