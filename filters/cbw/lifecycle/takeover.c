/* SPDX-License-Identifier: BSD-3-Clause */

/* Taking over the snapshots that an earlier server has left in the segment. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "below/log.h"
#include "lifecycle/increment.h"
#include "lifecycle/lifecycle.h"
#include "lifecycle/takeover-points.h"
#include "segment/entry.h"
#include "snapshot/accounting.h"
#include "snapshot/policy.h"
#include "snapshot/target.h"
#include "utils/cleanup.h"

/* What the table of an earlier server says, each entry read but once: what
 * was checked is what is used, whoever writes to the segment meanwhile.
 */
struct found {
  struct cbw_snapshot copies[CBW_NR_SNAPSHOTS];
  struct cbw_snapshot *in_use[CBW_NR_SNAPSHOTS]; /* of them, oldest first */
  size_t nr;
  struct points_found points;
};

static enum cbw_snapshot_state
state_of (const struct cbw_snapshot *copy)
{
  return atomic_load (&((struct cbw_snapshot *) copy)->state);
}

/* Does what it says of its job have a meaning?  Of kinds that a later version
 * knows nobody can tell; fill_add refuses them.
 */
static bool
has_good_job (const struct cbw_snapshot *copy)
{
  const uint32_t state = atomic_load (&((struct cbw_snapshot *) copy)->
                                      job.state);

  switch (copy->job.kind) {
  case CBW_JOB_NONE:
    return state == CBW_JOB_NO_JOB && copy->options.backup == 0;
  case CBW_JOB_BACKUP:
    return state != CBW_JOB_NO_JOB && state <= CBW_JOB_FAILED &&
      copy->options.backup == 1;
  default:
    return copy->options.backup <= 1;
  }
}

/* The index in the table of a copy. */
static unsigned
index_of (const struct found *found, const struct cbw_snapshot *copy)
{
  return (unsigned) (copy - found->copies);
}

static bool
is_terminated (const struct cbw_snapshot *copy)
{
  return memchr (copy->name, '\0', sizeof copy->name) != NULL &&
    memchr (copy->target, '\0', sizeof copy->target) != NULL &&
    memchr (copy->increment.name, '\0', sizeof copy->increment.name) != NULL;
}

static int
check_entry (const struct segment *segment,
             const struct command_policy *commands,
             const struct cbw_snapshot *copy, unsigned i, uint64_t disk_size,
             struct error *e)
{
  const struct cbw_map *m = &segment->map;
  const enum cbw_snapshot_state state = state_of (copy);

  if (state == CBW_SNAPSHOT_EMPTY || state == CBW_SNAPSHOT_RESERVED)
    return 0;
  if (state > CBW_SNAPSHOT_HIDDEN || copy->sum != entry_sum (copy) ||
      copy->id == 0 || !is_terminated (copy) ||
      (copy->target_kind != CBW_TARGET_RAW &&
       copy->target_kind != CBW_TARGET_NBD) ||
      copy->target_kind != target_kind (copy->target) ||
      !has_good_job (copy) ||
      !layout_has_room (&m->geometry, copy->size) ||
      (!segment_has_bitmaps (segment, i, layout_bitmaps (&copy->options)) &&
       !entry_is_complete (copy)))
    return error_set (e, EBADMSG, "%s: is corrupt: entry %u of its snapshot "
                      "table is damaged; remove the segment to start anew",
                      segment->path, i);
  if (command_policy_takeover (commands, segment->path, copy->name,
                               copy->target, e) == -1)
    return -1;
  if (copy->size > disk_size)   /* it had grown before the snapshot */
    return error_set (e, EINVAL, "%s: has a snapshot of a disk of %" PRIu64
                      " bytes, and this one has only %" PRIu64
                      "; is it the right disk?  If so, end its snapshots by "
                      "removing the segment", segment->path, copy->size,
                      disk_size);
  return 0;
}

static int
by_age (const void *a, const void *b)
{
  const struct cbw_snapshot *x = *(struct cbw_snapshot *const *) a;
  const struct cbw_snapshot *y = *(struct cbw_snapshot *const *) b;

  return x->id < y->id ? -1 : x->id > y->id;
}

/* Read and check the table; nothing is changed. */
static int
find_snapshots (const struct segment *segment,
                const struct command_policy *commands, uint64_t disk_size,
                struct found *found, struct error *e)
{
  enum cbw_snapshot_state state;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    memcpy (&found->copies[i], map_snapshot (&segment->map, i),
            sizeof found->copies[i]);
    if (check_entry (segment, commands, &found->copies[i], i, disk_size,
                     e) == -1)
      return -1;
    state = state_of (&found->copies[i]);
    if (state != CBW_SNAPSHOT_EMPTY && state != CBW_SNAPSHOT_RESERVED)
      found->in_use[found->nr++] = &found->copies[i];
  }
  qsort (found->in_use, found->nr, sizeof found->in_use[0], by_age);
  for (i = 1; i < found->nr; ++i)
    if (found->in_use[i]->id == found->in_use[i - 1]->id)
      return error_set (e, EBADMSG, "%s: is corrupt: two of its snapshots have "
                        "the id %" PRIu64 "; remove the segment to start anew",
                        segment->path, found->in_use[i]->id);
  return 0;
}

/* A reservation that never became live.  If there was no file before, the
 * target which stands there now is removed, provided it may be ours.  The sum
 * says nothing: the server may have died while it noted in the entry which
 * file it had made.
 */
static void
undo_reservation (const struct cbw_snapshot *copy)
{
  if (is_terminated (copy) && copy->target_created)
    target_undo_reserved (copy);
}

/* Is it of no use to anybody?  Of those that were dropped that is a backup,
 * and what nothing older needs: the server ended before it had cleared them
 * away.
 */
static bool
is_left_over (const struct cbw_snapshot *copy, bool any_older)
{
  return state_of (copy) == CBW_SNAPSHOT_HIDDEN &&
    (copy->options.backup || !any_older);
}

/* Is it the result of a backup whose name a newer snapshot has?  The server
 * died before it had forgotten it.
 */
static bool
is_replaced (const struct found *found, size_t j)
{
  const struct cbw_snapshot *copy = found->in_use[j];
  size_t i;

  for (i = j + 1; entry_is_complete (copy) && i < found->nr; ++i)
    if (strcmp (found->in_use[i]->name, copy->name) == 0)
      return true;
  return false;
}

/* Clear away what is of no use, take note of the results of backups, and
 * leave the others in found->in_use.
 */
static void
collect (struct engine *engine, const struct cbw_map *m, struct found *found)
{
  struct cbw_snapshot *copy;
  size_t kept = 0, j;
  unsigned i;
  bool hidden;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (state_of (&found->copies[i]) == CBW_SNAPSHOT_RESERVED) {
      LOG_WATCH (takeover, "entry %u: \"%s\" was being made", i,
                 found->copies[i].name);
      undo_reservation (&found->copies[i]);
      takeover_undo_point (&engine->points, found->copies[i].uuid);
      atomic_store (&map_snapshot (m, i)->state, CBW_SNAPSHOT_EMPTY);
    }
  for (j = 0; j < found->nr; ++j) {
    copy = found->in_use[j];
    i = index_of (found, copy);
    hidden = state_of (copy) == CBW_SNAPSHOT_HIDDEN;
    LOG_WATCH (takeover, "entry %u: \"%s\" (id %" PRIu64 "), state %d", i,
               copy->name, copy->id, (int) state_of (copy));
    if (is_left_over (copy, kept > 0) || is_replaced (found, j)) {
      LOG_WATCH (takeover, "entry %u: nobody needs it", i);
      if (!entry_is_complete (copy))
        target_discard (copy, NULL);
      atomic_store (&map_snapshot (m, i)->state, CBW_SNAPSHOT_EMPTY);
    }
    else if (entry_is_complete (copy)) {
      LOG_WATCH (takeover, "entry %u: the result of a backup is kept", i);
      table_adopt (&engine->table, i, copy, TABLE_KEPT, hidden);
    }
    else {
      table_adopt (&engine->table, i, copy, TABLE_USED, hidden);
      atomic_store (&map_snapshot (m, i)->stalled_until_ns, 0);
      found->in_use[kept++] = copy; /* nobody waits yet */
    }
  }
  found->nr = kept;
}

/* A promise of before that this server is not to keep? */
static int
check_policies (const struct writeback *w, const struct found *found,
                struct error *e)
{
  const struct cbw_snapshot *copy;
  size_t j;

  for (j = 0; w->accept && j < found->nr; ++j) {
    copy = found->in_use[j];
    if (state_of (copy) == CBW_SNAPSHOT_LIVE &&
        !policy_allows_writeback (&copy->options))
      return error_set (e, EINVAL, "snapshot \"%s\" was made with "
                        "on-error=break-guest-write, which does not go with "
                        "cbw-writeback; start without it, and drop the "
                        "snapshot", copy->name);
  }
  return 0;
}

/* May a live snapshot read the target of j? */
static bool
is_target_needed (const struct chain *chain, size_t j)
{
  size_t k;

  for (k = snapshot_is_backup (chain->snaps[j]) ? j : 0; k <= j; ++k)
    if (snapshot_state (chain->snaps[k]) == CBW_SNAPSHOT_LIVE)
      return true;
  return false;
}

static int
refuse_for_now (const struct segment *segment, const struct snapshot *snap,
                struct error *e)
{
  const struct error why = *e;

  return error_set (e, why.num, "%s.  Snapshot \"%s\" would be lost: put that "
                    "right and start again.  If the target is gone for good, "
                    "end all snapshots by removing %s", why.msg,
                    snap->fixed.name, segment->path);
}

/* Has a client that read the target been told that what was written there is
 * lost?  Then the kernel need not have told this server.
 */
static bool
client_knows_loss (const struct segment *segment, const struct snapshot *snap)
{
  const struct cbw_map *m = &segment->map;
  const unsigned i = map_snapshot_index (m, snap->entry);

  return snap->fixed.target_kind == CBW_TARGET_RAW &&
    atomic_load (map_lost_target (m, i)) == snap->fixed.id;
}

static enum target_opened
open_target (const struct segment *segment, struct snapshot *snap, bool clean,
             struct error *e)
{
  const enum target_opened r =
    target_reopen (&snap->fixed, snap->entry->target_words,
                   snapshot_state (snap), clean, snap->view.cluster_size,
                   &snap->target, e);

  if (r != TARGET_OPENED || !client_knows_loss (segment, snap))
    return r;
  snap->target->ops->close (snap->target);
  error_set_errno (e, EIO, "%s: a client has found that what was written to "
                   "the target could not be written to disk",
                   snap->fixed.target);
  return TARGET_LOST;
}

/* Open the targets of all, or break them all.  -1 if one that is needed may
 * be there, and cannot be opened now: that is no reason to break it for good.
 */
static int
take_over_targets (const struct segment *segment, struct writeback *writeback,
                   const struct chain *chain, bool clean, bool unclean_reboot,
                   struct error *e)
{
  enum target_opened r;
  struct snapshot *snap;
  size_t j;

  for (j = 0; j < chain->len; ++j) {
    snap = chain->snaps[j];
    if (unclean_reboot)
      snapshot_break (snap, CBW_BROKEN_REBOOT, EIO, 0,
                      "the host went down without a clean shutdown");
    r = open_target (segment, snap, clean, e);
    if (r == TARGET_NOT_NOW && is_target_needed (chain, j))
      return refuse_for_now (segment, snap, e);
    if (r != TARGET_OPENED) {
      chain_lose_target (chain, j, e);
      snap->target = image_missing_new (e->msg);
      if (snap->target == NULL)
        return error_set_errno (e, ENOMEM, "snapshot \"%s\"",
                                snap->fixed.name);
    }
    if (writeback_set_store (writeback, snap, true, e) == -1)
      return -1;
    accounting_recount_held (snap);
  }
  return 0;
}

int
takeover_backups (struct engine *engine, struct error *e)
{
  const struct chain *chain;
  struct snapshot *snap;
  size_t i;

  increment_resume (engine);
  LOCK_FOR_SCOPE (&engine->control);
  chain = engine->chain.current;
  for (i = 0; chain && i < chain->len; ++i) {
    snap = chain->snaps[i];
    if (snap->fixed.job.kind == CBW_JOB_BACKUP)
      accounting_recount_backup (snap);
    if (snapshot_state (snap) != CBW_SNAPSHOT_HIDDEN &&
        fill_add (&engine->fill, snap, e) == -1)
      return -1;
  }
  return 0;
}


/* Bring back those that were found, into the chain. */
static int
take_over_chain (struct engine *engine, const struct cbw_map *m,
                 const struct found *found, struct error *e)
{
  const struct cbw_snapshot *copy;
  struct snapshot *snap;
  uint64_t held_ns;
  size_t j;
  int r;

  for (j = 0; j < found->nr; ++j) {
    copy = found->in_use[j];
    snap = snapshot_new (m, index_of (found, copy), copy);
    if (snap == NULL)
      return error_set_errno (e, ENOMEM, "snapshot \"%s\"", copy->name);
    r = engine_cut (engine, &(struct engine_cut) { .snap = snap, .id = copy->id },
                    0, &held_ns, e);
    snapshot_unref (snap);      /* the chain has its own reference */
    if (r == -1)
      return -1;
    snap->closer = &engine->closer;
  }
  return 0;
}

int
takeover_snapshots (struct engine *engine, struct segment *segment,
                    uint64_t disk_size, struct error *e)
{
  CLEANUP_FREE struct found *found = calloc (1, sizeof *found);
  const struct cbw_map *m = &segment->map;
  const struct cbw_header *h = map_header (m);

  if (found == NULL)
    return error_set_errno (e, ENOMEM, "%s", segment->path);
  /* First look, then touch. */
  if (find_snapshots (segment, &engine->commands, disk_size, found, e) == -1 ||
      check_policies (&engine->writeback, found, e) == -1 ||
      points_look (segment, takeover_host_went_down (h), &found->points, e) == -1)
    return -1;

  LOCK_FOR_SCOPE (&engine->control);
  if (engine->table.next_id < h->next_snapshot_id)
    engine->table.next_id = h->next_snapshot_id;
  generation_bump (&engine->generation);                        /* E5 */
  takeover_points (engine, h, &found->points, disk_size);
  collect (engine, m, found);
  if (take_over_chain (engine, m, found, e) == -1)
    return -1;
  if (engine->chain.current &&
      take_over_targets (segment, &engine->writeback, engine->chain.current,
                         h->clean == 1, takeover_host_went_down (h), e) == -1)
    return -1;
  closer_tidy (&engine->closer, engine->chain.current, 0);
  return 0;
}
