/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "clock.h"
#include "restore.h"
#include "snaptab.h"

/* The in-process side of entry i, without target. */
static struct snapshot *
snapshot_new (const struct segment *segment, unsigned i)
{
  const struct cbw_map *m = &segment->map;
  struct cbw_snapshot *entry = map_snapshot (m, i);
  struct snapshot *snap = calloc (1, sizeof *snap);

  if (snap == NULL)
    return NULL;
  snap->entry = entry;
  snap->id = entry->id;
  snap->size = entry->size;
  snap->cluster_size = m->geometry.cluster_size;
  snap->access = map_bitmap (m, i, CBW_BITMAP_ACCESS, entry->size);
  snap->done = map_bitmap (m, i, CBW_BITMAP_DONE, entry->size);
  snap->dirty = map_bitmap (m, i, CBW_BITMAP_DIRTY, entry->size);
  return snap;
}

static void
set_entry_state (struct cbw_snapshot *entry, enum cbw_snapshot_state state)
{
  atomic_store_explicit (&entry->state, state, memory_order_release);
}

static unsigned
find_empty (const struct cbw_map *m)
{
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (atomic_load (&map_snapshot (m, i)->state) == CBW_SNAPSHOT_EMPTY)
      break;
  return i;
}

/* Write the fixed part of a free entry and reserve it. */
static int
reserve (const struct cbw_map *m, struct cbw_snapshot *entry,
         const char *name, const char *target, uint64_t size,
         struct error *e)
{
  memset (entry, 0, sizeof *entry);
  entry->id = map_header (m)->next_snapshot_id++;
  entry->size = size;
  entry->created_ns = now_realtime_ns ();
  if (getrandom (entry->uuid, sizeof entry->uuid, 0) != sizeof entry->uuid)
    return error_set_errno (e, errno, "getrandom");
  strncpy (entry->name, name, sizeof entry->name - 1);
  strncpy (entry->target, target, sizeof entry->target - 1);
  entry->target_kind = CBW_TARGET_RAW;
  entry->target_created = access (target, F_OK) == -1;
  entry->sum = snaptab_sum (entry);
  set_entry_state (entry, CBW_SNAPSHOT_RESERVED);
  return 0;
}

int
create_snapshot (struct engine *engine, struct segment *segment,
                 const char *name, const char *target, uint64_t size,
                 struct error *e)
{
  const struct cbw_map *m = &segment->map;
  const unsigned i = find_empty (m);
  struct cbw_snapshot *entry;
  struct snapshot *snap = NULL;
  struct image_id id;
  bool created = false;

  if (i == CBW_NR_SNAPSHOTS)
    return error_set (e, ENOSPC, "%s: the table of %d snapshots is full",
                      segment->path, CBW_NR_SNAPSHOTS);
  if (bitmap_bytes ((size + m->geometry.cluster_size - 1) /
                    m->geometry.cluster_size) > m->geometry.bitmap_size)
    return error_set (e, EFBIG, "%s: was made for a disk of %" PRIu64
                      " bytes, and it has grown to %" PRIu64
                      "; remove the segment to take new snapshots",
                      segment->path, m->geometry.disk_size, size);

  entry = map_snapshot (m, i);
  if (reserve (m, entry, name, target, size, e) == -1 ||
      segment_allocate_bitmaps (segment, i, e) == -1)
    goto undo;
  snap = snapshot_new (segment, i);
  if (snap == NULL) {
    error_set_errno (e, ENOMEM, "snapshot \"%s\"", name);
    goto undo;
  }
  snap->target = image_raw_create (target, size, &id, &created, e);
  if (snap->target == NULL)
    goto undo;
  entry->target_created = created;
  entry->target_device = id.device;
  entry->target_inode = id.inode;
  entry->sum = snaptab_sum (entry);
  bitmap_set (&snap->access, 0, snap->access.nbits);

  if (engine_add_snapshot (engine, snap) == -1) {
    error_set_errno (e, ENOMEM, "snapshot \"%s\"", name);
    goto undo;
  }
  return 0;

 undo:
  if (created)
    unlink (target);
  snapshot_free (snap);
  set_entry_state (entry, CBW_SNAPSHOT_EMPTY);
  return -1;
}

/* A reservation that never became live.  If there was no file before, the
 * target which stands there now is removed, provided it is surely ours:
 * a regular file without a single block.
 */
static void
undo_reservation (struct cbw_snapshot *entry)
{
  struct stat st;

  if (entry->sum == snaptab_sum (entry) && entry->target_created &&
      lstat (entry->target, &st) == 0 && S_ISREG (st.st_mode) &&
      st.st_blocks == 0)
    unlink (entry->target);
  set_entry_state (entry, CBW_SNAPSHOT_EMPTY);
}

static int
check_entry (const struct segment *segment, unsigned i, struct error *e)
{
  const struct cbw_map *m = &segment->map;
  const struct cbw_snapshot *entry = map_snapshot (m, i);
  const uint32_t state = atomic_load (&map_snapshot (m, i)->state);

  if (state == CBW_SNAPSHOT_EMPTY || state == CBW_SNAPSHOT_RESERVED)
    return 0;
  if (state > CBW_SNAPSHOT_BROKEN || entry->sum != snaptab_sum (entry) ||
      memchr (entry->name, '\0', sizeof entry->name) == NULL ||
      memchr (entry->target, '\0', sizeof entry->target) == NULL ||
      entry->target_kind != CBW_TARGET_RAW ||
      entry->size > m->geometry.disk_size ||
      !segment_has_bitmaps (segment, i))
    return error_set (e, EBADMSG, "%s: is corrupt: entry %u of its snapshot "
                      "table is damaged; remove the segment to start anew",
                      segment->path, i);
  return 0;
}

/* Open the target of a live snapshot; break it if that cannot be. */
static void
restore_target (struct engine *engine, struct snapshot *snap,
                bool unclean_reboot)
{
  const struct cbw_snapshot *entry = snap->entry;
  const struct image_id id = {
    .device = entry->target_device, .inode = entry->target_inode
  };
  struct error e;

  if (snapshot_state (snap) != CBW_SNAPSHOT_LIVE)
    return;
  if (unclean_reboot) {
    snapshot_break (&engine->chain, snap, CBW_BROKEN_REBOOT, EIO, 0,
                    "the host went down without a clean shutdown");
    return;
  }
  snap->target = image_raw_open (entry->target, entry->size, &id, &e);
  if (snap->target == NULL)
    snapshot_break (&engine->chain, snap, CBW_BROKEN_TARGET, e.num, 0, e.msg);
}

int
restore_snapshots (struct engine *engine, struct segment *segment,
                   struct error *e)
{
  const struct cbw_map *m = &segment->map;
  struct cbw_header *h = map_header (m);
  uint8_t boot_id[16];
  struct cbw_snapshot *entry;
  struct snapshot *snap;
  bool unclean_reboot;
  unsigned i;

  /* First look, then touch. */
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (check_entry (segment, i, e) == -1)
      return -1;

  segment_boot_id (boot_id);
  unclean_reboot = h->clean != 1 &&
    memcmp (boot_id, h->boot_id, sizeof boot_id) != 0;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    entry = map_snapshot (m, i);
    if (entry->id >= h->next_snapshot_id)
      h->next_snapshot_id = entry->id + 1;
    switch (atomic_load (&entry->state)) {
    case CBW_SNAPSHOT_EMPTY:
      break;
    case CBW_SNAPSHOT_RESERVED:
      undo_reservation (entry);
      break;
    default:
      snap = snapshot_new (segment, i);
      if (snap == NULL)
        return error_set_errno (e, ENOMEM, "snapshot \"%s\"", entry->name);
      restore_target (engine, snap, unclean_reboot);
      if (engine_add_snapshot (engine, snap) == -1) {
        snapshot_free (snap);
        return error_set_errno (e, ENOMEM, "snapshot \"%s\"", entry->name);
      }
    }
  }
  return 0;
}
