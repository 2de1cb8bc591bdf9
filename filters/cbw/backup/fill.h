/* SPDX-License-Identifier: BSD-3-Clause */

/* Filling the targets of backups, in threads of its own: which backup is
 * served, how fast, what an error does, and when it is complete.  How
 * clusters get there is settle.h.
 *
 * All that outlives the server is in the entry's struct cbw_fill and
 * bitmaps; a backup is added here when it is made, and when a server takes
 * over.  The threads are started with the first.
 *
 * Guests come first: while one copies for a change of its own, only two of
 * the threads work; the others look again a moment later.
 *
 * The lock is a leaf, and is not held while anything is copied.
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

/* Let the threads end: they finish the pieces under way. */
extern void fill_quit (struct fill *f);

/* Before anything of snapshots, source and copier is freed: wait up to
 * timeout_ns for pieces under way, and end the threads.  Returns false if
 * some are stuck: then nothing that they use may be freed.
 */
extern bool fill_stop (struct fill *f, uint64_t timeout_ns);

/* After that, if it returned true. */
extern void fill_destroy (struct fill *f);

/* Fill the target of this backup, which is live, unless it has ended.
 * 0, or -1 with the error set.
 */
extern int fill_add (struct fill *f, struct snapshot *snap, struct error *e);

/* After a takeover, before guests and fill go on: a server that was killed
 * may have set bits of the backup and not counted them.
 */
extern void fill_count (struct snapshot *snap);

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
