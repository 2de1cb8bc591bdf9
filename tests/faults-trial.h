/* SPDX-License-Identifier: BSD-3-Clause */

/* What the faults test asks for while the filter is killed, and what must
 * have come of it.
 */

#ifndef CBW_FAULTS_TRIAL_H
#define CBW_FAULTS_TRIAL_H

#include <stdatomic.h>

#include "model-oracle.h"

extern uint64_t trial_seed;

enum { OLDEST, MIDDLE, NEWEST };

enum what {
  CREATE, CREATE_FORCED, DROP, DROP_TWO, CHANGE,
  BACKUP, BACKUP_ALONE,         /* from its beginning to its end */
  BACKUP_FORCED,                /* over a file */
  BACKUP_REST,                  /* begun before, then the guest wrote */
  CANCEL,                       /* the same */
  STOP, START
};

struct trial {
  enum what what;
  unsigned which;               /* snapshot to be dropped */
  struct snap *snap;
  struct backup *backup;
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

/* The part of that which looks at a snapshot to be made, or to be dropped. */
extern void trial_check_create (struct trial *t, bool certain);
extern void trial_check_drop (struct trial *t, bool certain);

/* Of a backup over a file, just after the filter was killed: there is the old
 * file, or the new image, and nothing else.
 */
extern void trial_check_replaced (const struct backup *b);

#endif /* CBW_FAULTS_TRIAL_H */
