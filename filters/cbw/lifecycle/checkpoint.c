/* SPDX-License-Identifier: BSD-3-Clause */

/* Making and dropping points: checkpoints, and those that snapshots leave
 * behind.
 */

#include <config.h>

#include <errno.h>

#include "lifecycle/cool.h"
#include "lifecycle/lifecycle.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

int
drop_point (struct engine *engine, uint64_t id, uint64_t hold_ns,
            struct error *e)
{
  if (engine_leave_point (engine, id, hold_ns, e) == -1)
    return -1;
  points_merge (&engine->points, id);
  return 0;
}

void
drop_replaced_point (struct engine *engine, uint64_t id)
{
  struct error ignored;
  uint64_t old;

  /* There are two if a server ended before it came here. */
  while ((old = points_replaced (&engine->points, id)) != 0)
    drop_point (engine, old, 0, &ignored); /* not the newest: nothing fails */
}

/* Which points a new one must not displace, for is_wanted. */
struct wants {
  const struct engine *engine;
  uint64_t since;               /* the point from which changes are counted */
};

/* Is that point not to go? */
static bool
is_wanted (void *opaque, uint64_t id)
{
  const struct wants *w = opaque;

  return id == w->since || chain_find (w->engine->chain.current, id) >= 0;
}

int
draft_point (struct engine *engine, const char *name, const uint8_t uuid[16],
             uint32_t flags, uint64_t since, struct points_draft *draft,
             struct error *e)
{
  struct wants wants = { .engine = engine, .since = since };
  struct error ignored;
  uint64_t old;

  {
    LOCK_FOR_SCOPE (&engine->control);
    old = points_to_make_room (&engine->points, is_wanted, &wants);
    if (old != 0)
      drop_point (engine, old, 0, &ignored); /* the same */
  }
  return points_reserve (&engine->points, name, uuid, flags, draft, e);
}

/* The moment of the checkpoint; as of a snapshot, see create.c. */
static int
cut (struct engine *engine, struct segment *segment,
     const struct points_draft *draft, uint64_t size, uint64_t hold_ns,
     uint64_t *id, uint64_t *held_ns, struct error *e)
{
  struct engine_cut cut = { .draft = draft, .size = size };

  LOCK_FOR_SCOPE (&engine->control);
  cut.id = *id = table_next_id (&engine->table);
  cut.created_ns = now_realtime_ns ();
  map_header (&segment->map)->next_snapshot_id = cut.id + 1;
  if (engine_cut (engine, &cut, hold_ns, held_ns, e) == -1)
    return -1;
  drop_replaced_point (engine, cut.id);
  return 0;
}

/* One that is not valid from the beginning is of no use. */
static int
check_valid (struct engine *engine, const struct segment *segment, uint64_t id,
             uint64_t hold_ns, struct error *e)
{
  struct points_entry point;
  struct error ignored;

  LOCK_FOR_SCOPE (&engine->control);
  if (!points_find (&engine->points, id, &point) || point.valid)
    return 0;
  drop_point (engine, id, hold_ns, &ignored);
  return error_set (e, EIO, "%s: could not be written to disk, so changes since "
                    "the checkpoint would not be known if the host went down; "
                    "the server's log says more", segment->path);
}

int
create_checkpoint (struct engine *engine, struct segment *segment,
                   const char *name, const uint8_t uuid[16], uint64_t size,
                   uint64_t hold_ns, uint64_t *held_ns, struct error *e)
{
  struct points_draft draft;
  uint64_t id;

  *held_ns = 0;
  if (!engine->points.track)
    return error_set (e, EOPNOTSUPP, "%s: its server has cbw-track=off, so "
                      "there are no checkpoints", segment->path);
  if (!layout_has_room (&segment->map.geometry, size))
    return error_set (e, EFBIG, "%s: the disk has grown too large for it; "
                      "remove the segment to make checkpoints again",
                      segment->path);
  if (points_find_uuid (&engine->points, uuid) != 0)
    return 0;
  if (table_has_name (&engine->table, name))
    return error_set (e, EEXIST, "%s: there is a snapshot \"%s\"; choose "
                      "another name", segment->path, name);
  if (draft_point (engine, name, uuid, 0, 0, &draft, e) == -1)
    return -1;
  if (cut (engine, segment, &draft, size, hold_ns, &id, held_ns, e) == -1) {
    points_undo (&engine->points, &draft);
    return -1;
  }
  cool_confirm (engine, id);
  return check_valid (engine, segment, id, hold_ns, e);
}
