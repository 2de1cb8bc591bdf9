/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include <nbdkit-filter.h>

#include "chain.h"
#include "cleanup.h"
#include "clock.h"
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
    snapshot_free (chain->snaps[i]);
  free (chain);
}

int
chain_append (struct chain_head *head, struct snapshot *snap)
{
  struct chain *chain;

  /* One snapshot for now; several will have to share their owners. */
  chain = malloc (sizeof *chain + sizeof chain->snaps[0]);
  if (chain == NULL)
    return -1;
  atomic_init (&chain->refs, 1);
  chain->len = 1;
  chain->snaps[0] = snap;

  LOCK_FOR_SCOPE (&head->lock);
  head->current = chain;
  return 0;
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

void
snapshot_break (struct chain_head *head, struct snapshot *snap,
                enum cbw_broken_reason reason, int num, uint64_t offset,
                const char *msg)
{
  struct cbw_snapshot *entry = snap->entry;

  LOCK_FOR_SCOPE (&head->lock);
  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return;
  entry->error_num = num;
  entry->error_reason = reason;
  entry->error_offset = offset;
  entry->error_ns = now_realtime_ns ();
  atomic_store (&entry->state, CBW_SNAPSHOT_BROKEN);
  nbdkit_error ("cbw: snapshot \"%s\" is broken: %s "
                "(the disk itself is not affected)", entry->name, msg);
}

void
snapshot_free (struct snapshot *snap)
{
  if (snap == NULL)
    return;
  if (snap->target)
    snap->target->ops->close (snap->target);
  free (snap);
}
