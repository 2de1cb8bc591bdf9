/* SPDX-License-Identifier: BSD-3-Clause */

/* What is asked for among the changes of a burst of the model test, and what
 * came of it.
 */

#ifndef CBW_MODEL_ASK_H
#define CBW_MODEL_ASK_H

#include "increment-oracle.h"
#include "points-oracle.h"

#define NR_REGIONS 6            /* changes in flight at once */

enum ask_kind {
  ASK_NOTHING, ASK_CREATE, ASK_DROP, ASK_BACKUP, ASK_CANCEL, ASK_CHECKPOINT,
  ASK_KEEP,                     /* the snapshot's point */
  ASK_FORGET,                   /* a checkpoint */
  ASK_INCREMENT, ASK_CANCEL_INCREMENT,
  ASK_KINDS,
};

struct ask {
  enum ask_kind kind;
  struct snap *snap;            /* to be made or dropped */
  struct backup *backup;        /* to be begun or cancelled */
  bool again;                   /* it may have the name of a result */
  struct image_model *image;    /* whose backup that is, or NULL */
  struct checkpoint *checkpoint;
  struct client *client;
  int result;
  struct error error;
  struct moment *moment;        /* that was made */
};

/* Choose, from the seed, what is possible now.  With "end_filter" the client
 * may be one that does not wait for another server.
 */
extern void ask_choose (struct ask *a, bool end_filter);

/* Ask for it; in a thread.  Returns NULL. */
extern void *ask_run (void *a);

/* It was done or it was not, when the disk was "before" or had some of the
 * changes: the model looks which, and compares.  They are not applied yet.
 */
extern void ask_resolve (struct ask *a, const unsigned char *before,
                         const struct change changes[NR_REGIONS]);

/* They are applied. */
extern void ask_passed (struct ask *a);

#endif /* CBW_MODEL_ASK_H */
