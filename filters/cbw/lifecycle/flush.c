/* SPDX-License-Identifier: BSD-3-Clause */

/* Flushing all targets, and the disk, at the end: a thread for each, as one
 * that hangs must not keep the others from being flushed.  See flush.h.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "below/log.h"
#include "image/image.h"
#include "lifecycle/flush.h"
#include "utils/threads.h"

/* One target's flush. */
struct flush_job {
  struct image *target;
  _Atomic (bool) done;
  int r;                        /* when it is */
  struct error e;
};

/* Belongs to the threads too: if one is stuck it is never freed. */
struct flush {
  struct thread_group threads;
  struct chain *chain;          /* a reference, or NULL */
  size_t len;                   /* of it, and the disk's if it is wanted */
  _Atomic (size_t) next;        /* the job to be taken next */
  struct flush_job jobs[];      /* as the snapshots of the chain */
};

static void
flush_thread (void *opaque)
{
  struct flush *f = opaque;
  struct flush_job *job;
  size_t i;

  while ((i = atomic_fetch_add (&f->next, 1)) < f->len) {
    job = &f->jobs[i];
    job->r = job->target->ops->flush (job->target, &job->e);
    atomic_store (&job->done, true);
  }
}

struct flush *
flush_start (struct chain_head *head, struct image *disk)
{
  struct chain *chain = chain_get (head);
  const size_t nr = chain ? chain->len : 0;
  const size_t len = nr + (disk != NULL);
  struct flush *f = calloc (1, sizeof *f + len * sizeof f->jobs[0]);
  size_t i;

  if (f == NULL) {
    log_error ("cbw: cannot flush the targets: %m");
    chain_put (chain);
    return NULL;
  }
  f->chain = chain;
  f->len = len;
  for (i = 0; i < nr; ++i)
    /* What is in the write-back buffer is in the segment. */
    f->jobs[i].target = chain->snaps[i]->target;
  if (disk)
    f->jobs[nr].target = disk;
  thread_group_init (&f->threads, flush_thread, f);
  /* If there are fewer threads each has more to do. */
  thread_group_start (&f->threads, (unsigned) len);
  return f;
}

bool
flush_join (struct flush *f, uint64_t until)
{
  return f == NULL || thread_group_join (&f->threads, until);
}

/* The job of the disk, which is behind those of the chain. */
static bool
is_disk (const struct flush *f, size_t i)
{
  return i == (f->chain ? f->chain->len : 0);
}

static bool
disk_is_flushed (const struct flush_job *job)
{
  if (atomic_load (&job->done) && job->r == 0)
    return true;
  log_error ("cbw: %s; if this host goes down, its snapshots and checkpoints "
             "are lost", atomic_load (&job->done) ? job->e.msg :
             "the disk has not been flushed in time");
  return false;
}

/* Is it known what has become of job i? */
static bool
is_known (const struct flush *f, size_t i)
{
  const struct flush_job *job = &f->jobs[i];
  const char *name;

  if (is_disk (f, i))
    return disk_is_flushed (job);
  name = f->chain->snaps[i]->fixed.name;
  if (!atomic_load (&job->done)) {
    log_error ("cbw: snapshot \"%s\": its target has not been flushed in "
               "time, and may not be whole if this host goes down", name);
    return false;
  }
  if (job->r == 0)
    return true;
  if (job->e.num == ESHUTDOWN) { /* not the target's fault: it was given up */
    log_error ("cbw: snapshot \"%s\": %s", name, job->e.msg);
    return false;
  }
  chain_lose_target (f->chain, i, &job->e);
  return true;
}

bool
flush_known (struct flush *f)
{
  bool known = f != NULL;
  size_t i;

  for (i = 0; f && i < f->len; ++i)
    known = is_known (f, i) && known;
  return known;
}

void
flush_leave (struct flush *f)
{
  if (f)
    thread_group_leave (&f->threads);
}

void
flush_free (struct flush *f)
{
  if (f == NULL)
    return;
  thread_group_free (&f->threads);
  chain_put (f->chain);
  free (f);
}
