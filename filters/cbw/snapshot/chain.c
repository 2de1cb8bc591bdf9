/* SPDX-License-Identifier: BSD-3-Clause */

/* Who holds a cluster, who needs it, and what is lost with a target. */

#include <config.h>

#include <assert.h>
#include <stdlib.h>

#include "snapshot/chain.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

void
chain_head_init (struct chain_head *head)
{
  pthread_mutex_init (&head->lock, NULL);
  head->current = NULL;
}

void
chain_head_destroy (struct chain_head *head)
{
  chain_put (head->current);
  pthread_mutex_destroy (&head->lock);
}

struct chain *
chain_get (struct chain_head *head)
{
  LOCK_FOR_SCOPE (&head->lock);
  struct chain *chain = head->current;

  if (chain)
    atomic_fetch_add_explicit (&chain->refs, 1, memory_order_relaxed);
  return chain;
}

void
chain_put (struct chain *chain)
{
  size_t i;

  if (chain == NULL ||
      atomic_fetch_sub_explicit (&chain->refs, 1, memory_order_acq_rel) > 1)
    return;
  for (i = 0; i < chain->len; ++i)
    snapshot_unref (chain->snaps[i]);
  free (chain);
}

struct chain *
chain_make (const struct chain *old, const bool *leaves,
            struct snapshot *snap)
{
  size_t room = (old ? old->len : 0) + (snap != NULL), i;
  struct chain *chain;

  for (i = 0; old && leaves && i < old->len; ++i)
    room -= leaves[i];
  if (room == 0)
    return NULL;
  chain = calloc (1, sizeof *chain);
  if (chain == NULL)
    return NULL;
  atomic_init (&chain->refs, 1);
  for (i = 0; old && i < old->len; ++i)
    if (leaves == NULL || !leaves[i])
      chain->snaps[chain->len++] = old->snaps[i];
  if (snap)
    chain->snaps[chain->len++] = snap;
  assert (chain->len == room);
  for (i = 0; i < chain->len; ++i) {
    snapshot_ref (chain->snaps[i]);
    chain->views.views[i] = &chain->snaps[i]->view;
  }
  chain->views.len = chain->len;
  return chain;
}

size_t
chain_leaving (const struct chain *chain, const struct snapshot *snap,
               bool *leaves)
{
  const struct snapshot *s;
  size_t i, nr = 0;

  for (i = 0; i < chain->len; ++i) {
    s = chain->snaps[i];
    leaves[i] = (s == snap || snapshot_state (s) == CBW_SNAPSHOT_HIDDEN ||
                 snapshot_is_complete (s)) &&
      (snapshot_is_backup (s) || nr == i); /* or nobody older stays */
    nr += leaves[i];
  }
  return nr;
}

void
chain_set (struct chain_head *head, struct chain *chain)
{
  struct chain *old;

  {
    LOCK_FOR_SCOPE (&head->lock);
    old = head->current;
    head->current = chain;
  }
  chain_put (old);
}

/* Find the snapshot that sees cluster c through all snapshots from itself up
 * to j-1: a live one which may be read there, with no done bit set in between.
 * Returns the newest of several, or NULL.  The answer is the same for
 * [c, *run), with c < *run <= end.
 */
static struct snapshot *
who_sees (const struct chain *chain, size_t j, uint64_t c, uint64_t end,
          uint64_t *run)
{
  struct snapshot *snap;
  uint64_t next;

  while (j-- > 0 && c < snapshot_clusters (chain->snaps[j])) {
    snap = chain->snaps[j];
    end = min_u64 (end, snapshot_clusters (snap));
    next = bitmap_next_set (&snap->view.done, c, end);
    if (next == c) {
      end = bitmap_next_clear (&snap->view.done, c, end);
      if (snapshot_is_backup (snap))
        continue;               /* older ones look past it */
      *run = end;               /* they have it from here */
      return NULL;
    }
    end = next;
    if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
      continue;
    next = bitmap_next_clear (&snap->view.access, c, end);
    if (next > c) {
      *run = next;
      return snap;
    }
    end = bitmap_next_set (&snap->view.access, c, end);
  }
  *run = end;
  return NULL;
}

bool
chain_next_needed (const struct chain *chain, uint64_t start, uint64_t end,
                   struct chain_need *need)
{
  for (; start < end; start = need->end) {
    need->start = start;
    need->by = who_sees (chain, chain->len, start, end, &need->end);
    if (need->by)
      return true;
  }
  return false;
}

/* May snapshot j itself be read at cluster c?  The same for [c, *run). */
static bool
sees (const struct snapshot *snap, uint64_t c, uint64_t end, uint64_t *run)
{
  *run = end;
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return false;
  *run = bitmap_next_clear (&snap->view.access, c, end);
  if (*run > c)
    return true;
  *run = bitmap_next_set (&snap->view.access, c, end);
  return false;
}

struct snapshot *
chain_reader (const struct chain *chain, size_t j, uint64_t c, uint64_t end,
              uint64_t *run)
{
  if (sees (chain->snaps[j], c, end, run))
    return chain->snaps[j];
  if (snapshot_is_backup (chain->snaps[j]))
    return NULL;
  return who_sees (chain, j, c, *run, run);
}

/* The first run of [start, end) that is done, and of no use; an empty one at
 * "end" if there is none.
 */
static struct chain_run
next_unneeded (const struct chain *chain, size_t j, uint64_t start,
               uint64_t end)
{
  const struct snapshot *snap = chain->snaps[j];
  uint64_t c, run;

  for (c = bitmap_next_set (&snap->view.done, start, end); c < end;
       c = bitmap_next_set (&snap->view.done, run, end)) {
    run = bitmap_next_clear (&snap->view.done, c, end);
    if (chain_reader (chain, j, c, run, &run) == NULL)
      return (struct chain_run) { c, run };
  }
  return (struct chain_run) { end, end };
}

size_t
chain_unneeded (const struct chain *chain, size_t j, uint64_t *cursor,
                struct chain_run *runs, size_t max)
{
  const struct snapshot *snap = chain->snaps[j];
  const uint64_t n = snapshot_clusters (snap);
  size_t nr = 0;

  if (image_is_missing (snap->target) || snapshot_is_complete (snap))
    *cursor = n;
  while (*cursor < n && nr < max) {
    runs[nr] = next_unneeded (chain, j, *cursor, n);
    *cursor = runs[nr].end;
    nr += runs[nr].start < n;
  }
  return nr;
}

void
chain_punch (const struct chain *chain, size_t j, uint64_t start,
             uint64_t end)
{
  struct snapshot *snap = chain->snaps[j];
  struct chain_run run;

  if (image_is_missing (snap->target) || snapshot_is_complete (snap))
    return;
  for (; start < end; start = run.end) {
    run = next_unneeded (chain, j, start, end);
    if (run.start < run.end)
      snapshot_punch (snap, run.start, run.end);
  }
}

void
chain_lose_range (const struct chain *chain, size_t j, uint64_t start,
                  uint64_t end, const struct error *e)
{
  struct snapshot *snap;
  uint64_t c, run;

  for (c = start; c < end; c = run)
    while ((snap = chain_reader (chain, j, c, end, &run)) != NULL)
      snapshot_break (snap, CBW_BROKEN_COPY, e->num,
                      c * snap->view.cluster_size, e->msg);
}

void
chain_lose_target (const struct chain *chain, size_t j,
                   const struct error *e)
{
  const struct bitmap *done = &chain->snaps[j]->view.done;
  struct snapshot *snap;
  uint64_t c, end, run;
  size_t k;

  snapshot_break (chain->snaps[j], CBW_BROKEN_TARGET, e->num, 0, e->msg);
  for (k = 0; k < j; ++k) {
    snap = chain->snaps[k];
    end = snapshot_clusters (snap);
    for (c = bitmap_next_set (done, 0, end); c < end;
         c = bitmap_next_set (done, run, end))
      if (sees (snap, c, end, &run) &&
          view_holder (&chain->views, k, c, run, &run) == j) {
        snapshot_break (snap, CBW_BROKEN_TARGET, e->num,
                        c * snap->view.cluster_size, e->msg);
        break;
      }
  }
}
