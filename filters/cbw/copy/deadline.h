/* SPDX-License-Identifier: BSD-3-Clause */

/* Copies with a time limit: a worker thread copies, the guest's thread
 * waits for it, and leaves it to itself when time is up.
 *
 * A worker that was left so continues: its call into the source or target
 * may never return, and cannot be taken back.  It works in a buffer of
 * its own and holds a reference to its snapshot.  What it read before it
 * was given up is old data, since the clusters were claimed until then; it
 * does no harm if that still reaches the target, where no done bit speaks
 * for it: those are set by the guest's thread, which has the claim.  What
 * it read later may be new data, and is thrown away.
 */

#ifndef CBW_DEADLINE_H
#define CBW_DEADLINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "copy/transfer.h"
#include "utils/error.h"
#include "utils/threads.h"

/* More workers than this are not started: if so many are stuck, further
 * copies wait in the queue, and time out there.
 */
#define DEADLINE_THREADS_MAX 64

struct deadline_job;

struct deadline_pool {
  struct transfer_buffers *buffers;
  struct image *source;         /* usable in threads of our own */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t work;          /* the queue has a job, or stop */
  struct deadline_job *first, **last; /* queue */
  unsigned queued;              /* jobs in it */
  struct thread_group workers;  /* started under the lock */
  unsigned idle;                /* of them */
  bool stop;
};

extern void deadline_init (struct deadline_pool *pool,
                           struct transfer_buffers *buffers);

/* As in threads.h.  deadline_stop says in the log if copies that were given up
 * are waited for.
 */
extern void deadline_stop (struct deadline_pool *pool);
extern bool deadline_join (struct deadline_pool *pool, uint64_t until);
extern void deadline_free (struct deadline_pool *pool);

/* Have a worker make the transfer, from the source and without a "decide" of
 * its own, but wait no longer for it than until timeout_ns after "since" (of
 * now_monotonic_ns).  Then it is TRANSFER_GIVEN_UP, with the error set to
 * ETIMEDOUT.  Otherwise returns as transfer_run.
 */
extern enum transfer_result deadline_transfer (struct deadline_pool *pool,
                                               struct transfer *t,
                                               uint64_t since,
                                               uint64_t timeout_ns,
                                               struct error *e);

#endif /* CBW_DEADLINE_H */
