/* SPDX-License-Identifier: BSD-3-Clause */

/* The steps of the model test that ask for one thing and wait for it.  Each
 * draws from the seed what it does, asks the servers, and compares what they
 * say with the model.
 */

#ifndef CBW_MODEL_STEPS_H
#define CBW_MODEL_STEPS_H

#include "model-oracle.h"

struct steps {
  uint64_t seed;
  uint64_t last_end;            /* when something was last seen going */
  uint64_t changes, kills, stops, plugins, lost, owned, full; /* so far */
};
extern struct steps steps;

/* A random number below that. */
extern uint64_t below (uint64_t max);

/* A random change of [from, to). */
extern struct change random_change (uint64_t from, uint64_t to);

/* It was refused: the table was full, unless an end is making room just now,
 * and nothing may have changed.  "again": the name was that of a result, which
 * may be there still.
 */
extern void check_refused (const char *name, bool again, const char *target,
                           const struct error *e);

/* The table was full, or an increment has found no room: the first half of
 * that.
 */
extern void check_full (const char *name, const struct error *e);

/* Is it one of those below? */
extern bool is_dying (const char *name);

/* Owned snapshots whose owner has gone must be gone too after a while; a
 * filter that was away gets that time anew.
 */
extern void check_dying (bool filter_was_away);

/* The guest changes the disk; a part of a snapshot is read. */
extern void step_change (void);
extern void step_read (void);

/* A snapshot is made, or made for an owner, or dropped. */
extern void step_create (void);
extern void step_create_owned (void);
extern void step_drop (void);

/* A backup is begun, controlled, cancelled, or its image removed. */
extern void step_backup (void);

/* The same of an image that is brought up to date. */
extern void step_increment (void);

/* A checkpoint is made or dropped. */
extern void step_checkpoint (void);

/* A delta is read: from a checkpoint, a snapshot or an image's point, up to a
 * snapshot or until now.
 */
extern void step_delta (void);

#endif /* CBW_MODEL_STEPS_H */
