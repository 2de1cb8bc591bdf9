/* SPDX-License-Identifier: BSD-3-Clause */

/* What the faults test asks for while the filter is killed, and what must
 * have come of it.
 */

#ifndef CBW_FAULTS_TRIAL_H
#define CBW_FAULTS_TRIAL_H

#include <stdatomic.h>

#include "increment-oracle.h"
#include "points-oracle.h"

extern uint64_t trial_seed;

enum { OLDEST, MIDDLE, NEWEST };

enum what {
  CREATE, CREATE_FORCED, DROP, DROP_TWO, CHANGE,
  BACKUP, BACKUP_ALONE,         /* from its beginning to its end */
  BACKUP_FORCED,                /* over a file */
  BACKUP_REST,                  /* begun before, then the guest wrote */
  CANCEL,                       /* the same */
  CHECKPOINT, FORGET,           /* made; dropped */
  KEEP,                         /* a snapshot is dropped, its point stays */
  INCREMENT, INCREMENT_REST, CANCEL_INCREMENT, /* as BACKUP and so on */
  STOP, START
};

struct trial {
  enum what what;
  unsigned which;               /* snapshot, or checkpoint, to be dropped */
  struct snap *snap;
  struct checkpoint *checkpoint;
  struct backup *backup;
  struct image_model *image;    /* whose backup that is, or NULL */
  const unsigned char *expected; /* what it is to be then */
  struct change change;
  struct client *client;
  int result;
  struct error error;
  _Atomic (bool) finished;
};

/* Make three snapshots.  The middle one holds cluster 1, which nobody else
 * needs, and 2 and 3, which the oldest does.
 */
extern void trial_prepare (void);

/* Do what the trial needs to have been done before. */
extern void trial_get_ready (struct trial *t);

/* Ask for it, as t->client; in a thread, or called.  Returns NULL. */
extern void *trial_run (void *t);

/* The filter is back, or was not killed: it was done, or, unless that is
 * certain, not done, and nothing is half done.
 */
extern void trial_check (struct trial *t, bool certain);

/* For faults-points.c: the guest writes clusters [from, to); a backup runs to
 * its end, or the rest of one does.
 */
extern void trial_write (unsigned from, unsigned to);
extern void trial_back_up (struct trial *t);

/* The part of that which looks at a snapshot to be made, or to be dropped. */
extern void trial_check_create (struct trial *t, bool certain);
extern void trial_check_drop (struct trial *t, bool certain);

/* Of a backup over a file, just after the filter was killed: there is the old
 * file, or the new image, and nothing else.
 */
extern void trial_check_replaced (const struct backup *b);

#endif /* CBW_FAULTS_TRIAL_H */
