/* SPDX-License-Identifier: BSD-3-Clause */

/* The write-back buffer as a whole: which images have cells in it, and how it
 * begins and ends.  The engine calls this, and buffered.c and drain.c do to
 * count the cells of an image.
 */

#include <config.h>

#include <errno.h>

#include "utils/cleanup.h"
#include "writeback/writeback-private.h"

/* ---- The images with cells ---- */

void
writeback_append (struct writeback_image *wi)
{
  struct writeback_image **p = &wi->writeback->images;

  while (*p)
    p = &(*p)->next;
  *p = wi;
  wi->next = NULL;
}

/* How many cells it has, in the segment too, for readers that do not ask: who
 * sees fewer there sees what was written to the target before.  The lock is
 * held.
 */
static void
show_cells (struct writeback_image *wi)
{
  atomic_store_explicit (&wi->snap->entry->cells, atomic_load (&wi->cells),
                         memory_order_release);
}

void
writeback_more (struct writeback_image *wi, uint32_t n)
{
  const uint32_t before = atomic_fetch_add (&wi->cells, n);

  show_cells (wi);
  if (n == 0 || before > 0)
    return;
  snapshot_ref (wi->snap);
  writeback_append (wi);
}

/* As writeback_less, but nothing is said in the segment. */
static struct snapshot *
count_less (struct writeback_image *wi, uint32_t n)
{
  struct writeback_image **p;

  if (n == 0 ||
      atomic_fetch_sub_explicit (&wi->cells, n, memory_order_acq_rel) != n)
    return NULL;
  for (p = &wi->writeback->images; *p != wi; p = &(*p)->next)
    ;
  *p = wi->next;
  pthread_cond_broadcast (&wi->writeback->drained);
  return wi->snap;
}

struct snapshot *
writeback_less (struct writeback_image *wi, uint32_t n)
{
  struct snapshot *unused = count_less (wi, n);

  show_cells (wi);
  return unused;
}

/* ---- The whole ---- */

void
writeback_init (struct writeback *w, struct chain_head *chain)
{
  *w = (struct writeback) { .chain = chain };
  pthread_mutex_init (&w->lock, NULL);
  cond_init (&w->work);
  cond_init (&w->drained);
  thread_group_init (&w->threads, drain_thread, w);
}

int
writeback_attach (struct writeback *w, const struct cbw_map *map, bool accept,
                  struct error *e)
{
  if (map->geometry.nr_cells == 0)
    return 0;
  w->accept = accept;
  return cells_init (&w->cells, map, e);
}

int
writeback_set_store (struct writeback *w, struct snapshot *snap, bool adopt,
                     struct error *e)
{
  struct writeback_image *wi;

  snap->view.store = snap->target;
  atomic_store (&snap->entry->cells, 0); /* of this server's */
  if (w->cells.map == NULL || image_is_missing (snap->target))
    return 0;
  wi = writeback_image_new (w, snap);
  if (wi == NULL)
    return error_set_errno (e, ENOMEM, "snapshot \"%s\"", snap->fixed.name);
  snap->view.store = &wi->image;
  LOCK_FOR_SCOPE (&w->lock);
  if (adopt)
    writeback_more (wi, cells_adopt (&w->cells, snap->view.id,
                                     snapshot_clusters (snap), wi));
  return 0;
}

int
writeback_start (struct writeback *w, struct error *e)
{
  int r;

  if (w->cells.map == NULL)
    return 0;
  LOCK_FOR_SCOPE (&w->lock);
  cells_free_rest (&w->cells);
  r = thread_group_start (&w->threads, DRAIN_THREADS);
  return w->threads.started > 0 ? 0 :
    error_set_errno (e, r, "cannot start a thread for cbw-writeback");
}

/* The index goes; the cells stay as they are in the segment. */
static void
detach (struct writeback *w)
{
  struct writeback_image *wi;
  struct snapshot *unused;
  uint32_t i;

  for (i = 0; i < w->cells.nr; ++i) {
    wi = w->cells.all[i].image;
    if (wi == NULL)
      continue;
    w->cells.all[i].image = NULL;
    unused = count_less (wi, 1);
    snapshot_unref (unused);
  }
  cells_destroy (&w->cells);
}

void
writeback_stop (struct writeback *w)
{
  LOCK_FOR_SCOPE (&w->lock);
  w->stop = true;
  pthread_cond_broadcast (&w->work);
  pthread_cond_broadcast (&w->drained);
}

bool
writeback_join (struct writeback *w, uint64_t until)
{
  return thread_group_join (&w->threads, until);
}

void
writeback_free (struct writeback *w)
{
  detach (w);
  thread_group_free (&w->threads);
  pthread_cond_destroy (&w->work);
  pthread_cond_destroy (&w->drained);
  pthread_mutex_destroy (&w->lock);
}
