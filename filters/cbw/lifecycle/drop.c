/* SPDX-License-Identifier: BSD-3-Clause */

/* Dropping snapshots, and looking after those that nobody drops. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "lifecycle/lifecycle.h"
#include "segment/slots.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

void
retire_snapshot (struct engine *engine, struct snapshot *snap, bool keep)
{
  table_ending (&engine->table, snap->view.id, keep);
  if (!keep)
    atomic_store (&snap->retired, true);
  snapshot_unref (snap);
}

/* Those that have left, by their ids. */
struct gone {
  uint64_t ids[CBW_NR_SNAPSHOTS];
  size_t nr;
};

/* Take snap (NULL: none), and what else nobody needs, off the chain; and its
 * point, unless that is to stay.  0, or -1 with the error set.
 * engine->control is held.
 *
 * The results of complete backups are kept, but never that of snap: it is
 * being dropped, and may become complete at any moment meanwhile.
 */
static int
leave_chain (struct engine *engine, struct snapshot *snap, bool keep_point,
             uint64_t hold_ns, struct gone *left, struct error *e)
{
  struct snapshot *gone[CBW_NR_SNAPSHOTS];
  const uint64_t id = snap ? snap->view.id : 0;
  size_t nr_gone, i;

  left->nr = 0;
  if (engine_drop_snapshot (engine, snap, keep_point, hold_ns, gone, &nr_gone,
                            e) == -1)
    return -1;
  if (snap && chain_find (engine->chain.current, id) >= 0) {
    table_hide (&engine->table, id);
    target_move_aside (&snap->fixed, snap->target);
  }
  for (i = 0; i < nr_gone; ++i) {
    left->ids[left->nr++] = gone[i]->view.id;
    if (snapshot_is_complete (gone[i]))
      drop_replaced_point (engine, gone[i]->view.id);
  }
  for (i = 0; i < nr_gone; ++i)
    retire_snapshot (engine, gone[i],
                     gone[i]->view.id != id && snapshot_is_complete (gone[i]) &&
                     table_keeps (&engine->table, gone[i]->view.id));
  fill_wake (&engine->fill);
  if (snap && !keep_point)
    points_merge (&engine->points, id);
  return 0;
}

static void
tidy_current (struct engine *engine, uint64_t timeout_ns)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&engine->chain);

  closer_tidy (&engine->closer, chain, timeout_ns);
}

/* Drop what is in the chain.  engine->control is held. */
static int
drop_from_chain (struct engine *engine, struct snapshot *snap, bool keep_point,
                 uint64_t hold_ns, struct gone *left, struct error *e)
{
  const uint64_t id = snap->view.id;

  if (leave_chain (engine, snap, keep_point, hold_ns, left, e) == 0)
    return 0;
  if (!snapshot_is_complete (snap))
    return -1;
  /* It is no snapshot any more: it leaves when the gate closes. */
  table_do_not_keep (&engine->table, id);
  snapshot_hide (snap);         /* so that the next server forgets it, too */
  return keep_point ? 0 : drop_point (engine, id, hold_ns, e);
}

/* It is in the chain no more, or has never been.  engine->control is held. */
static int
drop_rest (struct engine *engine, struct segment *segment, uint64_t id,
           bool keep_point, uint64_t hold_ns, struct error *e)
{
  if (!table_forget (&engine->table, id) && !table_had (&engine->table, id))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint with "
                      "id %" PRIu64, segment->path, id);
  return keep_point ? 0 : drop_point (engine, id, hold_ns, e);
}

int
drop_snapshot (struct engine *engine, struct segment *segment, uint64_t id,
               bool keep_point, uint64_t hold_ns, struct error *e)
{
  const uint64_t until = now_monotonic_ns () + END_WAIT;
  struct gone left = { .ids = { id }, .nr = 1 };
  struct snapshot *snap;
  size_t n;
  int i, r;

  {
    LOCK_FOR_SCOPE (&engine->control);
    i = chain_find (engine->chain.current, id);
    snap = i >= 0 ? engine->chain.current->snaps[i] : NULL;
    if (snap && snapshot_state (snap) != CBW_SNAPSHOT_HIDDEN) {
      /* An image that is not whole is of no use to anybody. */
      keep_point = keep_point &&
        (!snapshot_is_backup (snap) || snapshot_is_complete (snap));
      r = drop_from_chain (engine, snap, keep_point, hold_ns, &left, e);
    }
    else
      r = drop_rest (engine, segment, id, keep_point, hold_ns, e);
  }
  if (r == -1)
    return -1;
  tidy_current (engine, END_WAIT);
  for (n = 0; n < left.nr; ++n)
    table_wait_ended (&engine->table, left.ids[n], time_left (until));
  return 0;
}

void
release_complete (struct engine *engine, uint64_t hold_ns)
{
  struct gone left;
  struct error e;
  int r;

  {
    LOCK_FOR_SCOPE (&engine->control);
    r = leave_chain (engine, NULL, true, hold_ns, &left, &e);             /* F8 */
  }
  if (r == -1)
    log_debug ("cbw: %s", e.msg); /* again in a moment */
  else if (left.nr > 0)         /* others may have kept something for it */
    tidy_current (engine, 0);
}

static bool
owner_is_gone (const struct segment *segment, uint32_t owner,
               bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  return !(slot_owner_is_current (&segment->map, owner) &&
           alive (opaque, slot_owner_client (owner)));
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
        owner_is_gone (segment, owner, alive, opaque))
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
    /* Without a lock, as it may take long.  One that is dropped meanwhile is
     * broken for nobody: those that could look through it have gone before.
     */
    target = chain->snaps[j]->target;
    if (target->ops->check (target, &e) == -1)
      chain_lose_target (chain, j, &e);
  }
}

void
drop_orphans (struct engine *engine, struct segment *segment,
              bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  struct snapshot *snap;
  struct gone left;
  bool any = false;
  struct error e;

  {
    LOCK_FOR_SCOPE (&engine->control);
    while ((snap = find_orphan (engine, segment, alive, opaque)) != NULL) {
      log_debug ("cbw: dropping snapshot \"%s\": its owner is gone",
                 snap->fixed.name);
      if (leave_chain (engine, snap, false, QUIET_HOLD, &left, &e) == -1) {
        log_debug ("cbw: %s", e.msg); /* the same */
        break;
      }
      any = true;
    }
  }
  if (any)
    tidy_current (engine, 0);
}

void
end_orphan_hold (struct engine *engine, const struct segment *segment,
                 bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  uint64_t number;
  uint32_t holder;

  if (!hold_of_client (&engine->hold, &number, &holder) ||
      !owner_is_gone (segment, holder, alive, opaque))
    return;
  log_debug ("cbw: guests continue: the client that held them is gone");
  hold_end (&engine->hold, number);
}
