/* SPDX-License-Identifier: BSD-3-Clause */

/* The bitmap directory: which bitmaps there are, of whom, and where they lie.
 *
 *   FREE -> IN_USE
 *
 * The rest of a record is written before IN_USE (release), and fixed from then
 * on.  A program leaves alone what it does not know: the kinds and owners of
 * others.
 */

#ifndef CBW_LAYOUT_BITMAPS_H
#define CBW_LAYOUT_BITMAPS_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum cbw_bitmap_kind {
  CBW_BITMAP_ACCESS = 0,        /* the cluster may be read by clients */
  CBW_BITMAP_DONE = 1,          /* its old data is in the target */
  CBW_BITMAP_SETTLED = 2,       /* nothing is left to copy of it for a guest's
                                 * change */
  CBW_BITMAP_MOVED = 3,         /* of a backup: taken from the target of a
                                 * newer snapshot, so not done */
  CBW_BITMAP_CHANGED = 4,       /* of a point: a guest may have changed it
                                 * before the next point */
  CBW_BITMAP_HOT = 5,           /* of the disk: changed, and not known to be
                                 * on stable storage */
};

/* How many of them a snapshot has, or one that is a backup: the first ones. */
#define CBW_SNAPSHOT_BITMAPS 3
#define CBW_BACKUP_BITMAPS 4

/* A bit of the HOT bitmap stands for a region of the disk: of 64 MiB; for
 * small disks of less, so that there are this many; for large ones of more, so
 * that there are no more than that many.
 */
#define CBW_HOT_REGION (UINT64_C (64) << 20)
#define CBW_HOT_REGIONS_MIN 64
#define CBW_HOT_REGIONS_MAX (UINT64_C (1) << 20)

enum cbw_bitmap_owner {
  CBW_OWNER_DISK = 0,
  CBW_OWNER_SNAPSHOT = 1,       /* an entry of the snapshot table */
  CBW_OWNER_POINT = 2,          /* one of the table of points */
};

enum cbw_bitmap_state {
  CBW_BITMAP_FREE = 0,
  CBW_BITMAP_IN_USE = 1,
};

struct cbw_bitmap_record {
  _Atomic (uint32_t) state;     /* enum cbw_bitmap_state */
  uint32_t kind;                /* enum cbw_bitmap_kind */
  uint32_t owner_kind;          /* enum cbw_bitmap_owner */
  uint32_t owner;               /* index in the owner's table, or 0 */
  uint64_t granularity;         /* bytes of the disk a bit, power of two */
  uint64_t offset;              /* bytes from the start, whole pages */
  uint64_t size;                /* bytes, whole pages */
  uint64_t sum;                 /* layout_sum of all from "kind" to it */
  uint8_t reserved[16];
};
static_assert (sizeof (struct cbw_bitmap_record) == 64, "cbw_bitmap_record");
static_assert (offsetof (struct cbw_bitmap_record, sum) == 40,
               "cbw_bitmap_record");

#endif /* CBW_LAYOUT_BITMAPS_H */
