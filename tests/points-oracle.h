/* SPDX-License-Identifier: BSD-3-Clause */

/* Points and deltas in the model of both servers: checkpoints that are there,
 * and what every delta must have and may have.  One thread uses it.
 */

#ifndef CBW_POINTS_ORACLE_H
#define CBW_POINTS_ORACLE_H

#include "model-oracle.h"
#include "moment-oracle.h"

#define NR_CHECKPOINTS 12

struct checkpoint {
  char name[CBW_NAME_MAX];
  struct moment at;
};

struct points_model {
  struct checkpoint list[NR_CHECKPOINTS + 1]; /* one that may be made */
  unsigned nr;
  uint64_t made, kept, dropped, deltas; /* so far */
};

extern struct points_model points;

/* One that may be made, with a name that was never used; then, that it was,
 * when the disk was "data", and that it is gone.
 */
extern struct checkpoint *checkpoint_new (void);
extern void checkpoint_add (struct checkpoint *c, const unsigned char *data);
extern void checkpoint_remove (struct checkpoint *c);

/* Snapshot s was dropped, and has left its point: a checkpoint. */
extern void checkpoint_keep (struct snap *s);

/* Is there a point of that name?  It must be valid. */
extern bool point_is_there (const char *name);

/* Snapshot "name" was dropped.  Its point is not there any more; or, if it is,
 * because the server has died in between and nobody is left who wanted that,
 * drop it, too.
 */
extern void point_follows (const char *name);

/* Every point of the model is in the segment, and valid, and there are no
 * others but those of backups, and such whose name "spare" knows.
 */
extern void points_check (bool (*spare) (const char *name));

/* Compare the delta from a, the point called "name", to snapshot b, as a
 * client sees it: all that differs is in it, nothing is that no guest has changed,
 * and its bytes are those of b.  It must be refused if b is older than a.
 */
extern void delta_compare (const struct moment *a, const char *name,
                           const struct snap *b);

/* The same of the delta from a until now, as the segment has it. */
extern void delta_compare_now (const struct moment *a);

/* Drop all checkpoints, and the points of backups, in an order from the seed:
 * nothing may be left.  There is no snapshot any more.
 */
extern void points_drop_all (uint64_t *seed);

#endif /* CBW_POINTS_ORACLE_H */
