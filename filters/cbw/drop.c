/* SPDX-License-Identifier: BSD-3-Clause */

/* Dropping snapshots, and looking after those that nobody drops. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "clock.h"
#include "lifecycle.h"
#include "slots.h"
#include "target.h"

void
retire_snapshot (struct engine *engine, struct snapshot *snap, bool keep)
{
  table_ending (&engine->table, snap->id, keep);
  if (!keep)
    atomic_store (&snap->retired, true);
  snapshot_unref (snap);
}

/* Take snap (NULL: none), and what else nobody needs, off the chain.
 * engine->control is held.
 */
static int
leave (struct engine *engine, struct snapshot *snap, uint64_t hold_ns,
       struct error *e)
{
  struct snapshot *gone[CBW_NR_SNAPSHOTS];
  const uint64_t id = snap ? snap->id : 0;
  size_t nr_gone, i;

  if (engine_drop_snapshot (engine, snap, hold_ns, gone, &nr_gone, e) == -1)
    return -1;
  if (snap && chain_find (engine->chain.current, id) >= 0) {
    table_hide (&engine->table, id);
    target_move_aside (&snap->fixed, snap->target);
  }
  for (i = 0; i < nr_gone; ++i)
    retire_snapshot (engine, gone[i], snapshot_is_complete (gone[i]) &&
                     gone[i]->id != id);
  fill_wake (&engine->fill);
  return 0;
}

int
drop_snapshot (struct engine *engine, struct segment *segment, uint64_t id,
               uint64_t hold_ns, struct error *e)
{
  struct snapshot *snap;
  int i;

  {
    LOCK_FOR_SCOPE (&engine->control);
    i = chain_find (engine->chain.current, id);
    snap = i >= 0 ? engine->chain.current->snaps[i] : NULL;
    if (snap && snapshot_state (snap) != CBW_SNAPSHOT_HIDDEN) {
      if (leave (engine, snap, hold_ns, e) == -1)
        return -1;
    }
    else if (!table_forget (&engine->table, id) &&
             !table_had (&engine->table, id)) /* else dropped before */
      return error_set (e, ENOENT, "%s: there is no snapshot with id %" PRIu64,
                        segment->path, id);
  }
  closer_tidy (&engine->closer, END_WAIT);
  table_wait_ended (&engine->table, id, END_WAIT);
  return 0;
}

void
release_complete (struct engine *engine)
{
  struct error e;

  LOCK_FOR_SCOPE (&engine->control);
  if (leave (engine, NULL, 0, &e) == -1)
    nbdkit_debug ("cbw: %s", e.msg); /* again in a moment */
}

/* The oldest snapshot, not hidden, whose owner is gone. */
static struct snapshot *
find_orphan (const struct engine *engine, const struct segment *segment,
             bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  const struct chain *chain = engine->chain.current;
  struct snapshot *snap;
  uint32_t owner;
  size_t i;

  for (i = 0; chain && i < chain->len; ++i) {
    snap = chain->snaps[i];
    owner = snap->fixed.owner;
    if (owner != 0 && snapshot_state (snap) != CBW_SNAPSHOT_HIDDEN &&
        !(slot_owner_is_current (&segment->map, owner) &&
          alive (opaque, slot_owner_client (owner))))
      return snap;
  }
  return NULL;
}

void
check_targets (struct engine *engine)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&engine->chain);
  struct image *target;
  struct error e;
  size_t j;

  for (j = 0; chain && j < chain->len; ++j) {
    target = chain->snaps[j]->target;
    /* Under the lock, so that none is dropped and moved aside meanwhile. */
    LOCK_FOR_SCOPE (&engine->control);
    if (target && target->ops->check (target, &e) == -1)
      chain_lose_target (chain, j, &e);
  }
}

void
drop_orphans (struct engine *engine, struct segment *segment,
              bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  struct snapshot *snap;
  bool any = false;
  struct error e;

  {
    LOCK_FOR_SCOPE (&engine->control);
    while ((snap = find_orphan (engine, segment, alive, opaque)) != NULL) {
      nbdkit_debug ("cbw: dropping snapshot \"%s\": its owner is gone",
                    snap->fixed.name);
      if (leave (engine, snap, 0, &e) == -1) {
        nbdkit_error ("cbw: %s", e.msg);
        break;
      }
      any = true;
    }
  }
  if (any)
    closer_tidy (&engine->closer, 0);
}
