/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "engine.h"
#include "rounding.h"

void
engine_init (struct engine *e)
{
  gate_init (&e->gate);
  chain_head_init (&e->chain);
  copier_init (&e->copier);
}

void
engine_destroy (struct engine *e)
{
  copier_destroy (&e->copier);
  chain_head_destroy (&e->chain);
  gate_destroy (&e->gate);
}

/* The clusters of the newest snapshot that a change touches; returns the
 * snapshot, or NULL if there is none or the change is past its size.
 */
static struct snapshot *
newest_touched (const struct engine *e, uint64_t offset, uint64_t count,
                uint64_t *start, uint64_t *end)
{
  const struct chain *chain = e->chain.current;
  struct snapshot *snap;

  if (chain == NULL)
    return NULL;
  snap = chain->snaps[chain->len - 1];
  if (offset >= snap->size)
    return NULL;
  *start = offset / snap->cluster_size;
  *end = (min_u64 (offset + count, snap->size) + snap->cluster_size - 1) /
    snap->cluster_size;
  return snap;
}

unsigned
engine_guest_begin (struct engine *e, const struct source *source,
                    uint64_t offset, uint64_t count, enum guest_op op)
{
  const unsigned ticket = gate_enter (&e->gate);
  struct snapshot *snap;
  uint64_t start, end;

  snap = newest_touched (e, offset, count, &start, &end);
  if (snap && !bitmap_all_set (&snap->dirty, start, end)) {
    copy_range (&e->copier, &e->chain, snap, source, start, end,
                op != GUEST_WRITE);
    bitmap_set (&snap->dirty, start, end);
  }
  /* Pairs with the fence in view.c: who reads from the source what this
   * change puts there also sees the done bits, and the broken state, that
   * were set (here, or seen set here) before it.
   */
  atomic_thread_fence (memory_order_release);
  return ticket;
}

void
engine_guest_end (struct engine *e, unsigned ticket)
{
  gate_leave (&e->gate, ticket);
}

bool
engine_guest_would_copy (struct engine *e, uint64_t offset, uint64_t count)
{
  const unsigned ticket = gate_enter (&e->gate);
  const struct snapshot *snap;
  uint64_t start, end;
  bool r;

  snap = newest_touched (e, offset, count, &start, &end);
  r = snap && copy_needed (snap, start, end);
  gate_leave (&e->gate, ticket);
  return r;
}

int
engine_add_snapshot (struct engine *e, struct snapshot *snap)
{
  uint32_t reserved = CBW_SNAPSHOT_RESERVED;
  int r;

  gate_close (&e->gate);
  r = chain_append (&e->chain, snap);
  if (r == 0)
    atomic_compare_exchange_strong (&snap->entry->state, &reserved,
                                    CBW_SNAPSHOT_LIVE);
  gate_open (&e->gate);
  return r;
}
