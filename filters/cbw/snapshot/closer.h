/* SPDX-License-Identifier: BSD-3-Clause */

/* The closer ends snapshots that nobody uses any more: it gives up the target
 * of one that was dropped, closes the target, and frees the table entry.  And
 * it tidies others: gives back what their targets hold and nobody needs.
 *
 * All of it may take long, or for ever, where a target is an NBD server
 * that hangs.  So no guest, no reader and no control request does it, but a
 * crew of the closer's: one that hangs holds up no other.
 *
 *   tidy:  NONE --> QUEUED --> RUNNING --> NONE
 *                                ^  |
 *                       asked    |  v
 *                       again    AGAIN
 *
 * The lock is a leaf but for the crew's.
 */

#ifndef CBW_CLOSER_H
#define CBW_CLOSER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapshot/chain.h"
#include "snapshot/snapshot.h"
#include "utils/crew.h"

struct closer {
  /* A snapshot that was dropped, or complete, has come to its end: its entry
   * "index" may be used again.  Called without a lock.
   */
  void (*ended) (void *opaque, const struct cbw_snapshot *entry);
  void (*tidy) (void *opaque, struct snapshot *snap); /* the same */
  void *opaque;

  struct crew crew;
  pthread_mutex_t lock;         /* for "tidy" of snapshots */
  pthread_cond_t tidied;        /* one is */
};

extern void closer_init (struct closer *c,
                         void (*ended) (void *opaque,
                                        const struct cbw_snapshot *entry),
                         void (*tidy) (void *opaque,
                                       struct snapshot *snap), void *opaque);

/* End this snapshot, which nobody has a reference to.  Returns false if the
 * closer has stopped, or there is no thread for it: then the caller does.
 */
extern bool closer_add (struct closer *c, struct snapshot *snap);

/* Tidy the snapshots of a chain (may be NULL), but not those that are broken:
 * somebody may want to rescue what there is.  Waits for that, no longer than
 * timeout_ns; and not for one that is being tidied already.
 */
extern void closer_tidy (struct closer *c, const struct chain *chain,
                         uint64_t timeout_ns);

/* As in threads.h.  What is queued is done; when it is freed there is no
 * snapshot left.
 */
extern void closer_stop (struct closer *c);
extern bool closer_join (struct closer *c, uint64_t until);
extern void closer_free (struct closer *c);

#endif /* CBW_CLOSER_H */
