/* SPDX-License-Identifier: BSD-3-Clause */

/* How the chain, and the points, change while guests are held: snapshots and
 * checkpoints are taken and dropped.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "guest/cut.h"
#include "guest/engine.h"
#include "guest/suspects.h"
#include "utils/clock.h"

/* A hold that one thread begins and ends, holding e->control.  What happens in
 * it takes far less time than this.
 */
#define HOLD_ALONE (10 * NS_PER_SEC)

static int
hold_alone (struct engine *e, uint64_t hold_ns, uint64_t *number,
            struct error *error)
{
  return hold_begin (&e->hold, hold_ns,
                     (hold_ns ? hold_ns : CBW_HOLD_DEFAULT) + HOLD_ALONE, 0,
                     number, error);
}

/* Replace the chain, after hold_commit: nobody is inside the gate. */
static void
set_chain (struct engine *e, struct chain *chain)
{
  assert (gate_is_closed (&e->gate));
  chain_set (&e->chain, chain);                                     /* H4 */
}

/* The moment itself: guests are held. */
static void
commit (struct engine *e, const struct engine_cut *cut, struct chain *chain,
        bool is_new)
{
  generation_begin (&e->generation);                                /* E1 */
  if (cut->draft) {
    points_commit (&e->points, cut->draft, cut->id, cut->size,
                   cut->created_ns);
    suspects_mark (e);                                              /* K5 */
  }
  if (cut->snap) {
    cut->snap->generation = &e->generation;
    set_chain (e, chain);
    if (is_new)
      snapshot_set_state (cut->snap, CBW_SNAPSHOT_LIVE);            /* E2 */
  }
  generation_end (&e->generation);                                  /* E3 */
}

int
engine_commit (struct engine *e, uint64_t number,
               const struct engine_cut *cut, uint64_t *held_ns,
               struct error *error)
{
  const bool is_new = cut->snap == NULL ||
    snapshot_state (cut->snap) == CBW_SNAPSHOT_RESERVED;
  struct chain *chain = NULL;

  if (hold_check (&e->hold, number, error) == -1)
    return -1;
  if (cut->snap)
    chain = chain_make (e->chain.current, NULL, cut->snap);
  if (cut->snap && chain == NULL)
    error_set_errno (error, ENOMEM, "snapshot \"%s\"", cut->snap->fixed.name);
  else if ((!is_new || cut_check (e, cut->snap, cut->size, error) == 0) && /* H2 */
           hold_commit (&e->hold, number, error) == 0) {
    commit (e, cut, chain, is_new);
    if (cut->snap)
      LOG_WATCH (cut, "hold %" PRIu64 ": snapshot \"%s\" is in the chain",
                 number, cut->snap->fixed.name);
    *held_ns = hold_committed (&e->hold);
    return 0;
  }
  hold_end (&e->hold, number);
  chain_put (chain);
  return -1;
}

int
engine_cut (struct engine *e, const struct engine_cut *cut, uint64_t hold_ns,
            uint64_t *held_ns, struct error *error)
{
  uint64_t number;

  if (hold_alone (e, hold_ns, &number, error) == -1)
    return -1;
  return engine_commit (e, number, cut, held_ns, error);
}

void
engine_lose_source (struct engine *e, uint64_t offset, const char *msg)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&e->chain);
  size_t i;

  for (i = 0; chain && i < chain->len; ++i)
    snapshot_break (chain->snaps[i], CBW_BROKEN_SOURCE, EINVAL, offset, msg);
}

int
engine_drop_snapshot (struct engine *e, struct snapshot *snap,
                      bool keep_point, uint64_t hold_ns,
                      struct snapshot **gone, size_t *nr_gone,
                      struct error *error)
{
  struct chain *old = e->chain.current, *chain;
  bool leaves[CBW_NR_SNAPSHOTS];
  uint64_t number;
  size_t i;

  *nr_gone = 0;
  if (old == NULL ||
      (chain_leaving (old, snap, leaves) == 0 && snap == NULL))
    return 0;
  chain = chain_make (old, leaves, NULL);
  for (i = 0; i < old->len; ++i)
    if (leaves[i]) {
      gone[*nr_gone] = old->snaps[i];
      snapshot_ref (gone[(*nr_gone)++]);
    }
  if (chain == NULL && *nr_gone < old->len)
    error_set_errno (error, ENOMEM, "cannot drop the snapshot");
  /* Closed, so that no copy that this snapshot alone needed is under way
   * when others look which of its copies are of use.
   */
  else if (hold_alone (e, hold_ns, &number, error) == 0 &&
           hold_commit (&e->hold, number, error) == 0) {
    generation_begin (&e->generation);                              /* E1 */
    if (snap)
      snapshot_hide (snap);                                         /* E2 */
    if (snap && !keep_point)
      points_leave (&e->points, snap->view.id);
    /* Readers of a complete backup must read its image from now on. */
    for (i = 0; i < *nr_gone; ++i)
      atomic_store (&gone[i]->state, CBW_SNAPSHOT_HIDDEN);
    set_chain (e, chain);
    generation_end (&e->generation);                                /* E3 */
    hold_committed (&e->hold);
    return 0;
  }
  chain_put (chain);
  while (*nr_gone > 0)
    snapshot_unref (gone[--*nr_gone]);
  return -1;
}

int
engine_leave_point (struct engine *e, uint64_t id, uint64_t hold_ns,
                    struct error *error)
{
  uint64_t number;

  if (!points_is_newest (&e->points, id)) {
    points_leave (&e->points, id);
    return 0;
  }
  if (hold_alone (e, hold_ns, &number, error) == -1 ||
      hold_commit (&e->hold, number, error) == -1)
    return -1;
  points_leave (&e->points, id);
  hold_committed (&e->hold);
  return 0;
}
