/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "lifecycle.h"
#include "slots.h"
#include "target.h"

/* A snapshot that is off the chain: remove its target, unless that is a
 * whole image; the entry is free when the last reader has gone.  Takes over
 * the reference.
 */
static void
retire (struct snapshot *snap)
{
  if (!snapshot_is_complete (snap))
    target_discard (snap->entry, snap->target);
  atomic_store (&snap->retired, true);
  snapshot_unref (snap);
}

void
punch_unneeded (const struct chain *chain)
{
  size_t i;

  for (i = 0; chain && i < chain->len; ++i)
    /* Of one that broke, somebody may want to rescue what there is. */
    if (snapshot_state (chain->snaps[i]) != CBW_SNAPSHOT_BROKEN)
      chain_punch (chain, i, 0, snapshot_clusters (chain->snaps[i]));
}

/* Drop snap, which is in the current chain; engine->control is held. */
static int
drop (struct engine *engine, struct snapshot *snap, struct error *e)
{
  struct snapshot *gone[CBW_NR_SNAPSHOTS];
  const uint64_t id = snap->id;
  size_t nr_gone, i;

  if (engine_drop_snapshot (engine, snap, gone, &nr_gone) == -1)
    return error_set_errno (e, ENOMEM, "cannot drop the snapshot");
  for (i = 0; i < nr_gone; ++i)
    retire (gone[i]);
  if (chain_find (engine->chain.current, id) >= 0 &&
      !snapshot_is_complete (snap))
    target_move_aside (snap->entry, snap->target);
  fill_wake (&engine->fill);

  punch_unneeded (engine->chain.current);
  return 0;
}

int
drop_snapshot (struct engine *engine, struct segment *segment, uint64_t id,
               struct error *e)
{
  struct snapshot *snap;
  int i;

  LOCK_FOR_SCOPE (&engine->control);
  i = chain_find (engine->chain.current, id);
  snap = i >= 0 ? engine->chain.current->snaps[i] : NULL;
  if (snap == NULL || snapshot_state (snap) == CBW_SNAPSHOT_HIDDEN) {
    if (id > 0 && id < map_header (&segment->map)->next_snapshot_id)
      return 0;                 /* dropped before */
    return error_set (e, ENOENT, "%s: there is no snapshot with id %" PRIu64,
                      segment->path, id);
  }
  return drop (engine, snap, e);
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
    owner = snap->entry->owner;
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
  const struct chain *chain;
  struct image *target;
  struct error e;
  size_t j;

  LOCK_FOR_SCOPE (&engine->control);
  chain = engine->chain.current;
  for (j = 0; chain && j < chain->len; ++j) {
    target = chain->snaps[j]->target;
    if (snapshot_state (chain->snaps[j]) == CBW_SNAPSHOT_HIDDEN &&
        chain->snaps[j]->entry->target_kind == CBW_TARGET_RAW)
      continue;                 /* its target has been moved aside */
    if (target && target->ops->check (target, &e) == -1)
      chain_lose_target (chain, j, &e);
  }
}

void
drop_orphans (struct engine *engine, struct segment *segment,
              bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  struct snapshot *snap;
  struct error e;

  LOCK_FOR_SCOPE (&engine->control);
  while ((snap = find_orphan (engine, segment, alive, opaque)) != NULL) {
    nbdkit_debug ("cbw: dropping snapshot \"%s\": its owner is gone",
                  snap->entry->name);
    if (drop (engine, snap, &e) == -1) {
      nbdkit_error ("cbw: %s", e.msg);
      return;
    }
  }
}
