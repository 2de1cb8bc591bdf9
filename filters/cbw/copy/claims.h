/* SPDX-License-Identifier: BSD-3-Clause */

/* Claiming what a guest's change needs copied; for copy.c.  The rest of what
 * is done with claims is in copy.h.
 */

#ifndef CBW_CLAIMS_H
#define CBW_CLAIMS_H

#include <stdint.h>

#include "copy/copy.h"

enum claimed { CLAIM_NONE, CLAIM_MINE, CLAIM_LATE, CLAIM_OTHERS };

/* Claim the first run of [start, job->end) that needs copying, or the
 * first "max" clusters of it.  CLAIM_NONE if none needs it.  CLAIM_LATE if
 * another thread's claim on it has lasted, from "since", longer than the time
 * limit of the snapshot that needs it, which need names.  CLAIM_OTHERS if
 * another thread has a claim on it, and the job has claims, so that it must
 * not wait.
 */
extern enum claimed claim_needed (struct copier *c,
                                  const struct copy_job *job, uint64_t start,
                                  uint64_t max, uint64_t since,
                                  struct copy_claim *mine);

#endif /* CBW_CLAIMS_H */
