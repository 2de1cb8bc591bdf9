/* SPDX-License-Identifier: BSD-3-Clause */

/* What the closer's crew does: it ends snapshots, and tidies them.  A snapshot
 * is one task, as it is tidied only while somebody has a reference to it.
 */

#include <config.h>

#include "snapshot/closer.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

static void
end_task (struct crew_task *task, void *owner)
{
  struct snapshot *snap = (struct snapshot *) task;
  const struct cbw_snapshot *entry = snap->entry;
  struct closer *c = owner;

  snapshot_end (snap);
  c->ended (c->opaque, entry);
}

static void
begin_tidying (struct closer *c, struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&c->lock);
  snap->tidy = SNAPSHOT_TIDY_RUNNING;
}

/* Is it tidy now, or has somebody asked again meanwhile? */
static bool
is_tidy (struct closer *c, struct snapshot *snap)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (snap->tidy == SNAPSHOT_TIDY_AGAIN && !crew_is_stopping (&c->crew))
    return false;
  snap->tidy = SNAPSHOT_TIDY_NONE;
  pthread_cond_broadcast (&c->tidied);
  return true;
}

static void
tidy_task (struct crew_task *task, void *owner)
{
  struct snapshot *snap = (struct snapshot *) task;
  struct closer *c = owner;

  do {
    begin_tidying (c, snap);
    c->tidy (c->opaque, snap);
  } while (!is_tidy (c, snap));
  snapshot_unref (snap);
}

void
closer_init (struct closer *c,
             void (*ended) (void *opaque, const struct cbw_snapshot *entry),
             void (*tidy) (void *opaque, struct snapshot *snap), void *opaque)
{
  *c = (struct closer) { .ended = ended, .tidy = tidy, .opaque = opaque };
  pthread_mutex_init (&c->lock, NULL);
  cond_init (&c->tidied);
  crew_init (&c->crew, c);
}

bool
closer_add (struct closer *c, struct snapshot *snap)
{
  snap->task.run = end_task;
  return crew_run (&c->crew, &snap->task) == 0;
}

/* The lock is held.  Returns whether it is queued now, and was not. */
static bool
queue_untidy (struct closer *c, struct snapshot *snap)
{
  if (snap->tidy == SNAPSHOT_TIDY_RUNNING)
    snap->tidy = SNAPSHOT_TIDY_AGAIN;
  if (snap->tidy != SNAPSHOT_TIDY_NONE)
    return false;
  snapshot_ref (snap);
  snap->tidy = SNAPSHOT_TIDY_QUEUED;
  snap->task.run = tidy_task;
  if (crew_run (&c->crew, &snap->task) == 0)
    return true;
  snap->tidy = SNAPSHOT_TIDY_NONE;
  snapshot_unref (snap);        /* not the last: the chain has one */
  return false;
}

void
closer_tidy (struct closer *c, const struct chain *chain, uint64_t timeout_ns)
{
  const struct timespec until = cond_until (now_monotonic_ns () + timeout_ns);
  struct snapshot *mine[CBW_NR_SNAPSHOTS];
  size_t nr = 0, i;
  int r = 0;

  LOCK_FOR_SCOPE (&c->lock);
  for (i = 0; chain && i < chain->len; ++i)
    if (snapshot_state (chain->snaps[i]) != CBW_SNAPSHOT_BROKEN &&
        queue_untidy (c, chain->snaps[i]))
      mine[nr++] = chain->snaps[i];
  for (i = 0; i < nr && r == 0 && timeout_ns > 0;)
    if (mine[i]->tidy == SNAPSHOT_TIDY_NONE)
      i++;
    else
      r = pthread_cond_timedwait (&c->tidied, &c->lock, &until);
}

void
closer_stop (struct closer *c)
{
  crew_stop (&c->crew);
}

bool
closer_join (struct closer *c, uint64_t until)
{
  return crew_join (&c->crew, until);
}

void
closer_free (struct closer *c)
{
  crew_free (&c->crew);
  pthread_cond_destroy (&c->tidied);
  pthread_mutex_destroy (&c->lock);
}
