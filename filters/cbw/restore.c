/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "lifecycle.h"
#include "nbd.h"
#include "snaptab.h"
#include "target.h"

static int
check_entry (const struct segment *segment, unsigned i, uint64_t disk_size,
             struct error *e)
{
  const struct cbw_map *m = &segment->map;
  const struct cbw_snapshot *entry = map_snapshot (m, i);
  const uint32_t state = atomic_load (&map_snapshot (m, i)->state);

  if (state == CBW_SNAPSHOT_EMPTY || state == CBW_SNAPSHOT_RESERVED)
    return 0;
  if (state > CBW_SNAPSHOT_HIDDEN || entry->sum != snaptab_sum (entry) ||
      memchr (entry->name, '\0', sizeof entry->name) == NULL ||
      memchr (entry->target, '\0', sizeof entry->target) == NULL ||
      (entry->target_kind != CBW_TARGET_RAW &&
       entry->target_kind != CBW_TARGET_NBD) ||
      atomic_load (&map_snapshot (m, i)->fill.state) > CBW_FILL_FAILED ||
      (atomic_load (&map_snapshot (m, i)->fill.state) != CBW_FILL_NONE) !=
      entry->options.backup ||
      !layout_has_room (&m->geometry, entry->size) ||
      !segment_has_bitmaps (segment, i))
    return error_set (e, EBADMSG, "%s: is corrupt: entry %u of its snapshot "
                      "table is damaged; remove the segment to start anew",
                      segment->path, i);
  if (image_nbd_is_command (entry->target) && !segment_is_private (segment))
    return error_set (e, EPERM, "%s: other users can write to it, and the "
                      "target of snapshot \"%s\" is a command; see that only "
                      "you can write to it, if you trust it",
                      segment->path, entry->name);
  if (entry->size > disk_size)  /* it had grown before the snapshot */
    return error_set (e, EINVAL, "%s: has a snapshot of a disk of %" PRIu64
                      " bytes, and this one has only %" PRIu64
                      "; is it the right disk?  If so, end its snapshots by "
                      "removing the segment", segment->path, entry->size,
                      disk_size);
  return 0;
}

/* A reservation that never became live.  If there was no file before, the
 * target which stands there now is removed, provided it is surely ours:
 * a regular file without a single block.  The sum says nothing: the server
 * may have died while it noted in the entry which file it had made.
 */
static void
undo_reservation (struct cbw_snapshot *entry)
{
  struct stat st;

  if (memchr (entry->target, '\0', sizeof entry->target) != NULL &&
      entry->target_kind == CBW_TARGET_RAW && entry->target_created &&
      lstat (entry->target, &st) == 0 &&
      S_ISREG (st.st_mode) && st.st_blocks == 0 &&
      (st.st_size == 0 || (uint64_t) st.st_size == entry->size))
    unlink (entry->target);
  atomic_store (&entry->state, CBW_SNAPSHOT_EMPTY);
}

static int
by_age (const void *a, const void *b)
{
  const struct cbw_snapshot *x = *(struct cbw_snapshot *const *) a;
  const struct cbw_snapshot *y = *(struct cbw_snapshot *const *) b;

  return x->id < y->id ? -1 : x->id > y->id;
}

/* The entries in use, oldest first, without those that nothing older
 * needs: dropped, but the server ended before it had cleared them away.
 */
static size_t
collect (const struct cbw_map *m, struct cbw_snapshot **entries)
{
  struct cbw_header *h = map_header (m);
  struct cbw_snapshot *entry;
  size_t nr = 0, i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    entry = map_snapshot (m, i);
    if (atomic_load (&entry->state) == CBW_SNAPSHOT_RESERVED)
      undo_reservation (entry);
    if (atomic_load (&entry->state) == CBW_SNAPSHOT_EMPTY)
      continue;
    if (entry->id >= h->next_snapshot_id)
      h->next_snapshot_id = entry->id + 1;
    atomic_store (&entry->stalled_until_ns, 0); /* nobody waits yet */
    entries[nr++] = entry;
  }
  qsort (entries, nr, sizeof *entries, by_age);

  for (i = 0; i < nr &&
         atomic_load (&entries[i]->state) == CBW_SNAPSHOT_HIDDEN; ++i) {
    if (atomic_load (&entries[i]->fill.state) != CBW_FILL_COMPLETE)
      target_discard (entries[i], NULL);
    atomic_store (&entries[i]->state, CBW_SNAPSHOT_EMPTY);
  }
  memmove (entries, entries + i, (nr - i) * sizeof *entries);
  return nr - i;
}

/* A promise of before that this server is not to keep? */
static int
check_policies (const struct writeback *w, const struct cbw_map *m,
                struct error *e)
{
  const struct cbw_snapshot *entry;
  uint32_t state;
  unsigned i;

  for (i = 0; w->accept && i < CBW_NR_SNAPSHOTS; ++i) {
    entry = map_snapshot (m, i);
    state = atomic_load (&map_snapshot (m, i)->state);
    if (state == CBW_SNAPSHOT_LIVE &&
        entry->options.on_error == CBW_ON_ERROR_BREAK_GUEST_WRITE)
      return error_set (e, EINVAL, "snapshot \"%s\" was made with "
                        "on-error=break-guest-write, which does not go with "
                        "cbw-writeback; start without it, and drop the "
                        "snapshot", entry->name);
  }
  return 0;
}

/* Open the targets of all, or break them all.  -1 if one is in use. */
static int
restore_targets (struct writeback *writeback, const struct chain *chain,
                 bool clean, bool unclean_reboot, struct error *e)
{
  struct snapshot *snap;
  size_t j;

  for (j = 0; j < chain->len; ++j) {
    snap = chain->snaps[j];
    if (unclean_reboot)
      snapshot_break (snap, CBW_BROKEN_REBOOT, EIO, 0,
                      "the host went down without a clean shutdown");
    snap->target = target_reopen (snap->entry, snap->cluster_size, clean, e);
    if (snap->target == NULL && e->num == EBUSY)
      return -1;                /* just now: no reason to break it for good */
    if (snap->target == NULL)
      chain_lose_target (chain, j, e);
    if (writeback_wrap (writeback, snap, true, e) == -1)
      return -1;
  }
  return 0;
}

int
restore_backups (struct engine *engine, struct error *e)
{
  const struct chain *chain;
  struct snapshot *snap;
  size_t i;

  LOCK_FOR_SCOPE (&engine->control);
  chain = engine->chain.current;
  for (i = 0; chain && i < chain->len; ++i) {
    snap = chain->snaps[i];
    if (snap->entry->options.backup && snap->target)
      fill_count (snap);
    if (snapshot_state (snap) != CBW_SNAPSHOT_HIDDEN &&
        fill_add (&engine->fill, snap, e) == -1)
      return -1;
  }
  return 0;
}

int
restore_snapshots (struct engine *engine, struct segment *segment,
                   uint64_t disk_size, struct error *e)
{
  const struct cbw_map *m = &segment->map;
  const struct cbw_header *h = map_header (m);
  struct cbw_snapshot *entries[CBW_NR_SNAPSHOTS];
  struct snapshot *snap;
  uint8_t boot_id[16];
  uint64_t held_ns;
  size_t nr, i;

  /* First look, then touch. */
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (check_entry (segment, (unsigned) i, disk_size, e) == -1)
      return -1;

  if (check_policies (&engine->writeback, m, e) == -1)
    return -1;

  LOCK_FOR_SCOPE (&engine->control);
  nr = collect (m, entries);
  for (i = 0; i < nr; ++i) {
    snap = snapshot_new (m, (unsigned) (entries[i] - map_snapshot (m, 0)));
    if (snap == NULL || engine_add_snapshot (engine, snap, &held_ns) == -1) {
      snapshot_unref (snap);
      return error_set_errno (e, ENOMEM, "snapshot \"%s\"", entries[i]->name);
    }
    snapshot_unref (snap);      /* the chain has its own reference */
  }

  segment_boot_id (boot_id);
  if (nr > 0 &&
      restore_targets (&engine->writeback, engine->chain.current,
                       h->clean == 1, h->clean != 1 &&
                       memcmp (boot_id, h->boot_id, sizeof boot_id) != 0,
                       e) == -1)
    return -1;
  punch_unneeded (engine->chain.current);
  return 0;
}
