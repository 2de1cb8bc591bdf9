/* SPDX-License-Identifier: BSD-3-Clause */

/* Pausing and resuming backups, and setting their speed, for control
 * requests.
 */

#include <config.h>

#include <errno.h>

#include "backup/fill-job.h"
#include "backup/fill.h"
#include "utils/cleanup.h"

static struct fill_job *
find_job (struct fill *f, uint64_t id)
{
  struct fill_job *job;

  for (job = f->jobs; job; job = job->next)
    if (job->snap->view.id == id &&
        snapshot_state (job->snap) == CBW_SNAPSHOT_LIVE)
      return job;
  return NULL;
}

/* Why is there no job of this snapshot? */
static int
explain (struct fill *f, uint64_t id, struct error *e)
{
  struct chain *chain = chain_get (f->chain);
  const int i = chain_find (chain, id);
  const struct snapshot *snap = i >= 0 ? chain->snaps[i] : NULL;

  if (snap == NULL || snapshot_state (snap) == CBW_SNAPSHOT_HIDDEN)
    error_set (e, ENOENT, "there is no such snapshot any more");
  else if (job_is_unknown (snap))
    error_set (e, ENOTSUP, "snapshot \"%s\" has a job that this server does "
               "not know", snap->fixed.name);
  else if (!snap->fixed.options.backup)
    error_set (e, EINVAL, "snapshot \"%s\" is not a backup",
               snap->fixed.name);
  else
    error_set (e, EALREADY, "backup \"%s\" %s", snap->fixed.name,
               snapshot_is_complete (snap) ? "is complete" : "has failed");
  chain_put (chain);
  return -1;
}

int
fill_control (struct fill *f, uint64_t id, enum cbw_job_action action,
              uint64_t speed, struct error *e)
{
  uint32_t running = CBW_JOB_RUNNING, paused = CBW_JOB_PAUSED;
  uint32_t stopped = CBW_JOB_STOPPED;
  struct fill_job *job;

  {
    LOCK_FOR_SCOPE (&f->lock);
    job = find_job (f, id);
    switch (job ? (int) action : 0) {
    case 0:
      break;
    case CBW_JOB_PAUSE:
      atomic_compare_exchange_strong (&fill_of (job)->state, &running,
                                      CBW_JOB_PAUSED);
      break;
    case CBW_JOB_RESUME:
      /* From no other state: it may be complete just now. */
      if (!atomic_compare_exchange_strong (&fill_of (job)->state, &paused,
                                           CBW_JOB_RUNNING))
        atomic_compare_exchange_strong (&fill_of (job)->state, &stopped,
                                        CBW_JOB_RUNNING);
      job->not_before = 0;
      break;
    case CBW_JOB_SPEED:
      atomic_store (&fill_of (job)->speed, speed);
      break;
    default:
      return error_set (e, EINVAL, "unknown action %d", (int) action);
    }
    pthread_cond_broadcast (&f->wake);
  }
  return job ? 0 : explain (f, id, e);
}
