/* SPDX-License-Identifier: BSD-3-Clause */

/* Filling the targets of backups, in threads of its own: which backup is
 * served, how fast, what an error does, and when it is complete.  How
 * clusters get there is settle.h.
 *
 * All that outlives the server is in the entry's struct cbw_job and
 * bitmaps; a backup is added here when it is made, and when a server takes
 * over.  The threads are started with the first.
 *
 * Guests come first: while one copies for a change of its own, only two of
 * the threads work; the others look again a moment later.
 *
 * The lock is not held while anything is copied, and with it only the state
 * lock is taken, that of the closer's crew, and that of a thread group.
 */

#ifndef CBW_FILL_H
#define CBW_FILL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "copy/copy.h"
#include "snapshot/chain.h"
#include "utils/error.h"
#include "utils/threads.h"

#define FILL_THREADS 4

struct fill_job;

struct fill {
  struct chain_head *chain;
  struct copier *copier;
  struct image *source;         /* usable in threads of our own */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t wake;          /* something has changed, or stop */
  struct fill_job *jobs;        /* oldest first */
  struct thread_group threads;  /* started under the lock */
  unsigned next_index;          /* for a thread that begins */
  bool stop;
};

extern void fill_init (struct fill *f, struct chain_head *chain,
                       struct copier *copier);

/* As in threads.h.  The threads finish the pieces under way; snapshots, source
 * and copier must stay until they have ended.
 */
extern void fill_stop (struct fill *f);
extern bool fill_join (struct fill *f, uint64_t until);
extern void fill_free (struct fill *f);

/* Fill the target of this backup, which is live, unless it has ended.
 * 0, or -1 with the error set.
 */
extern int fill_add (struct fill *f, struct snapshot *snap, struct error *e);

/* A snapshot has been dropped: let go of it, if it was a backup. */
extern void fill_wake (struct fill *f);

/* Pause or resume a backup, or set its speed (bytes/s, 0: any).  Success
 * too if it is as asked for.  0, or -1 with the error set: ENOENT (no such
 * snapshot), EINVAL (no backup, or an unknown action), EALREADY (it has
 * ended).
 */
extern int fill_control (struct fill *f, uint64_t id,
                         enum cbw_job_action action, uint64_t speed,
                         struct error *e);

#endif /* CBW_FILL_H */
