/* SPDX-License-Identifier: BSD-3-Clause */

/* What must hold of the bits of a snapshot, at every moment:
 *
 * - Bits beyond the last cluster are clear.
 *
 * - A cluster that is settled in snapshot j was written while j was the
 *   newest, or a backup j has copied it.  If the nearest snapshot that is j or older and live had it,
 *   it needed the old data, unless it may not be read there, and j or one
 *   between them, which is no backup of another, got it: a done bit.
 *   Settled bits are set after done bits, so they are read first.
 *   A host that went down keeps no such order.
 *
 * - Counters are added to after done bits were set; a server that was
 *   killed in between leaves them behind.
 */

#include <config.h>

#include <inttypes.h>

#include "check.h"
#include "utils/rounding.h"

static struct bitmap
bitmap_of (const struct check *c, const struct check_entry *entry,
           enum cbw_bitmap_kind kind)
{
  return map_bitmap (&c->segment.map, entry->index, kind, entry->copy.size);
}

static void
check_padding (struct check *c, const struct check_entry *entry)
{
  static const char *const names[] = {
    [CBW_BITMAP_ACCESS] = "access", [CBW_BITMAP_DONE] = "done",
    [CBW_BITMAP_SETTLED] = "settled", [CBW_BITMAP_MOVED] = "moved",
  };
  const uint64_t end = c->segment.map.geometry.bitmap_size * 8;
  struct bitmap b;
  unsigned kind;
  uint64_t bit;

  for (kind = CBW_BITMAP_ACCESS; kind < layout_bitmaps (&entry->copy.options); ++kind) {
    b = bitmap_of (c, entry, kind);
    bit = bitmap_next_set (&b, b.nbits, end);
    if (bit < end)
      check_add (&c->problems, "snapshot \"%s\": bit %" PRIu64 " of its %s "
                 "bitmap is set, but it has only %" PRIu64 " clusters",
                 entry->copy.name, bit, names[kind], b.nbits);
  }
}

/* The nearest live snapshot at j or older, or -1. */
static int
nearest_live (const struct check *c, size_t j)
{
  int k = (int) j;

  while (k >= 0 && check_state (&c->entries[k]) != CBW_SNAPSHOT_LIVE)
    k--;
  return k;
}

/* The first cluster of [start, end) that none of the snapshots k to j has
 * done, or end.
 */
static uint64_t
next_not_done (const struct check *c, size_t k, size_t j, uint64_t start,
               uint64_t end)
{
  struct bitmap done;
  uint64_t next = start, before;
  size_t i;

  do {
    before = next;
    for (i = k; i <= j; ++i) {
      if (i > k && c->entries[i].copy.options.backup)
        continue;               /* k does not look through it */
      done = bitmap_of (c, &c->entries[i], CBW_BITMAP_DONE);
      if (next < min_u64 (end, done.nbits))
        next = bitmap_next_clear (&done, next, min_u64 (end, done.nbits));
    }
  } while (next != before && next < end);
  return next;
}

/* The first of them that k may be read at, or end. */
static uint64_t
next_lost (const struct check *c, size_t k, size_t j, uint64_t start,
           uint64_t end)
{
  struct bitmap access;

  for (;;) {
    start = next_not_done (c, k, j, start, end);
    if (start >= end)
      return end;
    access = bitmap_of (c, &c->entries[k], CBW_BITMAP_ACCESS);
    if (bitmap_test (&access, start))
      return start;
    start = bitmap_next_set (&access, start, end);
  }
}

static void
check_settled (struct check *c, size_t j)
{
  const struct check_entry *entry = &c->entries[j];
  const struct bitmap settled = bitmap_of (c, entry, CBW_BITMAP_SETTLED);
  const int k = nearest_live (c, j);
  uint64_t start, end, limit, lost;

  if (k == -1)
    return;
  limit = min_u64 (settled.nbits, layout_clusters (&c->segment.map.geometry,
                                                 c->entries[k].copy.size));
  for (start = bitmap_next_set (&settled, 0, limit); start < limit;
       start = bitmap_next_set (&settled, end, limit)) {
    end = bitmap_next_clear (&settled, start, limit);
    lost = next_lost (c, (size_t) k, j, start, end);
    if (lost < end) {
      check_add (&c->problems, "snapshot \"%s\": cluster %" PRIu64 " was "
                 "written to since, but its old data was not copied",
                 c->entries[k].copy.name, lost);
      return;                   /* one is enough */
    }
  }
}

static void
check_copied (struct check *c, const struct check_entry *entry)
{
  struct cbw_snapshot *live = map_snapshot (&c->segment.map, entry->index);
  const struct bitmap done = bitmap_of (c, entry, CBW_BITMAP_DONE);
  /* The reverse of the order in which the server sets them. */
  const uint64_t bytes = atomic_load (&live->copied_bytes);
  const uint64_t moved = atomic_load (&live->job.moved_clusters);
  const uint64_t clusters = atomic_load (&live->copied_clusters);
  const uint64_t bits = bitmap_count (&done, 0, done.nbits);

  if (clusters > bits)
    check_add (&c->problems, "snapshot \"%s\": it has counted %" PRIu64
               " clusters copied, but only %" PRIu64 " are marked as done",
               entry->copy.name, clusters, bits);
  if (bytes / c->segment.map.geometry.cluster_size > clusters + moved)
    check_add (&c->problems, "snapshot \"%s\": %" PRIu64 " clusters copied "
               "cannot be %" PRIu64 " bytes", entry->copy.name,
               clusters + moved, bytes);
}

/* A complete backup is complete: each cluster is done or moved. */
static void
check_complete (struct check *c, const struct check_entry *entry)
{
  const struct bitmap done = bitmap_of (c, entry, CBW_BITMAP_DONE);
  uint64_t cluster = 0, next;
  struct bitmap moved;

  if (entry->copy.job.kind != CBW_JOB_BACKUP ||
      entry->copy.job.state != CBW_JOB_COMPLETE)
    return;
  moved = bitmap_of (c, entry, CBW_BITMAP_MOVED);
  for (;; cluster = next) {
    cluster = bitmap_next_clear (&done, cluster, done.nbits);
    next = bitmap_next_clear (&moved, cluster, moved.nbits);
    if (next == cluster)
      break;
  }
  if (cluster < done.nbits)
    check_add (&c->problems, "backup \"%s\": it is said to be complete, but "
               "its image lacks cluster %" PRIu64, entry->copy.name, cluster);
}

void
check_bitmaps (struct check *c)
{
  size_t j;

  for (j = 0; j < c->nr_entries; ++j) {
    check_padding (c, &c->entries[j]);
    check_copied (c, &c->entries[j]);
    check_complete (c, &c->entries[j]);
    if (!c->rebooted)
      check_settled (c, j);
  }
}
