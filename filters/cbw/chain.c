/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <stdlib.h>

#include "chain.h"
#include "cleanup.h"
#include "rounding.h"

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
chain_make (const struct chain *old, size_t first, struct snapshot *snap)
{
  const size_t kept = old ? old->len - first : 0;
  struct chain *chain;
  size_t i;

  if (kept + (snap != NULL) == 0)
    return NULL;
  chain = malloc (sizeof *chain +
                  (kept + (snap != NULL)) * sizeof chain->snaps[0]);
  if (chain == NULL)
    return NULL;
  atomic_init (&chain->refs, 1);
  chain->len = 0;
  for (i = 0; i < kept; ++i)
    chain->snaps[chain->len++] = old->snaps[first + i];
  if (snap)
    chain->snaps[chain->len++] = snap;
  for (i = 0; i < chain->len; ++i)
    snapshot_ref (chain->snaps[i]);
  return chain;
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

int
chain_find (const struct chain *chain, uint64_t id)
{
  size_t i;

  for (i = 0; chain && i < chain->len; ++i)
    if (chain->snaps[i]->id == id)
      return (int) i;
  return -1;
}

int
chain_live (const struct chain *chain, size_t j)
{
  int k = (int) j;

  while (k >= 0 && snapshot_state (chain->snaps[k]) != CBW_SNAPSHOT_LIVE)
    k--;
  return k;
}

size_t
chain_holder (const struct chain *chain, size_t k, uint64_t c, uint64_t end,
              uint64_t *run)
{
  const struct bitmap *done;
  size_t j;

  for (j = k; j < chain->len; ++j) {
    done = &chain->snaps[j]->done;
    if (bitmap_test (done, c)) {
      *run = bitmap_next_clear (done, c, end);
      return j;
    }
    end = bitmap_next_set (done, c, end);
  }
  *run = end;
  return j;
}

/* Who needs cluster c to be copied: a live snapshot that may be read there
 * and has it from the source.  Of several, the newest; NULL if none does.
 * The answer is the same for [c, *run).
 */
static struct snapshot *
who_needs (const struct chain *chain, uint64_t c, uint64_t end, uint64_t *run)
{
  struct snapshot *snap;
  size_t j;

  for (j = chain->len; j-- > 0 && c < snapshot_clusters (chain->snaps[j]);) {
    snap = chain->snaps[j];
    end = min_u64 (end, snapshot_clusters (snap));
    if (bitmap_test (&snap->done, c)) { /* older ones have it from here */
      *run = bitmap_next_clear (&snap->done, c, end);
      return NULL;
    }
    end = bitmap_next_set (&snap->done, c, end);
    if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
      continue;
    if (bitmap_test (&snap->access, c)) {
      *run = bitmap_next_clear (&snap->access, c, end);
      return snap;
    }
    end = bitmap_next_set (&snap->access, c, end);
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
    need->by = who_needs (chain, start, end, &need->end);
    if (need->by)
      return true;
  }
  return false;
}
