/* SPDX-License-Identifier: BSD-3-Clause */

/* The closer ends snapshots that nobody uses any more: it gives up the target
 * of one that was dropped, closes the target, and frees the table entry.  It
 * also tidies: gives back what the other targets hold and nobody needs.
 *
 * All of it may take long, or for ever, where a target is an NBD server
 * that hangs.  So no guest, no reader and no control request does it: the
 * last one to give back its reference queues the snapshot, and threads of the
 * closer's end it.  There is a thread for each snapshot that is being
 * ended, so one that hangs holds up no other.
 *
 * The lock is a leaf.
 */

#ifndef CBW_CLOSER_H
#define CBW_CLOSER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapshot.h"
#include "threads.h"

struct closer {
  /* A snapshot that was dropped, or complete, has come to its end: its entry
   * "index" may be used again.  Called without a lock.
   */
  void (*ended) (void *opaque, const struct cbw_snapshot *entry);
  void (*tidy) (void *opaque);  /* the same */
  void *opaque;

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t work;          /* there is some, or stop */
  pthread_cond_t tidied;
  struct snapshot *first;       /* the queue, in no order */
  unsigned queued, idle;
  uint64_t asked, done;         /* how often to tidy */
  bool tidying;                 /* a thread does */
  struct thread_group threads;  /* started under the lock */
  bool stop;
};

extern void closer_init (struct closer *c,
                         void (*ended) (void *opaque,
                                        const struct cbw_snapshot *entry),
                         void (*tidy) (void *opaque), void *opaque);

/* End this snapshot, which nobody has a reference to.  Returns false if the
 * closer has stopped, or there is no thread for it: then the caller does.
 */
extern bool closer_add (struct closer *c, struct snapshot *snap);

/* Tidy, and wait for that, but no longer than timeout_ns: then it is done
 * later.
 */
extern void closer_tidy (struct closer *c, uint64_t timeout_ns);

/* Let the threads end, when the queue is empty. */
extern void closer_quit (struct closer *c);

/* The same, and wait for it, but no longer than timeout_ns.  Returns false if
 * some are stuck: then nothing that they use may be freed.
 */
extern bool closer_stop (struct closer *c, uint64_t timeout_ns);

/* After that, and when no snapshot is left. */
extern void closer_destroy (struct closer *c);

#endif /* CBW_CLOSER_H */
