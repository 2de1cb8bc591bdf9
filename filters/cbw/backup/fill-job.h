/* SPDX-License-Identifier: BSD-3-Clause */

/* One backup that is being filled: its passes over the disk, its speed, its
 * errors, its end.  What fill.c's threads do for it is there.
 *
 * A job belongs to the list of a struct fill, whose lock is held in all of
 * these functions.  It is taken off when it ends, and freed when the last
 * thread that works for it has left.
 */

#ifndef CBW_FILL_JOB_H
#define CBW_FILL_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "backup/fill.h"
#include "utils/error.h"

struct fill_job {
  struct fill_job *next;
  struct snapshot *snap;        /* a reference */
  uint64_t cursor;              /* the pass has come to this cluster */
  uint64_t data_until;          /* no hole from cursor on before this */
  unsigned in_flight;           /* threads that work for it */
  unsigned refusals;            /* pieces in a row, with ESHUTDOWN */
  bool finishing;               /* one of them flushes the target */
  bool ended;                   /* to be freed by the last of them */
  bool careful;                 /* single clusters: something failed in the
                                 * last pass */
  bool failed;                  /* something, in this pass */
  uint64_t not_before;          /* monotonic ns */
  int64_t budget;               /* bytes to be read at the speed set */
  uint64_t budget_ns;           /* when it was reckoned, monotonic */
};

/* What one thread settles at a time: a piece, or a hole of any length. */
struct fill_stretch {
  uint64_t start, end;          /* clusters */
  uint64_t charged;             /* how many were, before it was read */
  uint64_t data_until;          /* no hole before this; 0: not looked for */
  bool hole;
};

static inline struct cbw_job *
fill_of (const struct fill_job *job)
{
  return &job->snap->entry->job;
}

/* If it has ended, and no thread works for it any more, free it. */
extern void job_put (struct fill_job *job);

/* Take the job off the list; job_put frees it.  Failing also says so in the
 * segment.
 */
extern void job_end (struct fill *f, struct fill_job *job);
extern void job_fail (struct fill *f, struct fill_job *job);

/* The snapshot is not live any more: the job ends.  If a guest's copy has
 * broken it, its error is the backup's.
 */
extern void job_lost (struct fill *f, struct fill_job *job);

/* Keep the first error, count them all. */
extern void job_record (struct fill_job *job, int num, bool is_read,
                        uint64_t offset);

/* An error at an offset, of reading or of writing: record it, and do what
 * the policy says.
 */
extern void job_error (struct fill *f, struct fill_job *job, bool is_read,
                       uint64_t offset, const struct error *e);

/* Has the job something for a thread, now?  Then the cursor is at a cluster
 * that is not settled, or at the end if all are.  Else *then is lowered to
 * when to look again, at the latest.
 */
extern bool job_ready (struct fill_job *job, uint64_t now, uint64_t *then);

/* Take the next piece.  It is charged before it is read: the other threads
 * must know of it.
 */
extern struct fill_stretch job_take (struct fill_job *job);

/* It is over, and so many bytes were read: charge that, and move the cursor. */
extern void job_account (struct fill_job *job, const struct fill_stretch *x,
                         uint64_t bytes);

/* Does this error say that the disk is going, and we with it?  Then what is
 * left is for the next server.  Not if it has said so too often.
 */
extern bool job_is_refused (struct fill_job *job, const struct error *e);

/* Was the snapshot's job begun by a later version?  A kind never changes, and
 * this is our own copy.
 */
static inline bool
job_is_unknown (const struct snapshot *snap)
{
  return snap->fixed.job.kind != CBW_JOB_NONE &&
    snap->fixed.job.kind != CBW_JOB_BACKUP;
}

#endif /* CBW_FILL_JOB_H */
