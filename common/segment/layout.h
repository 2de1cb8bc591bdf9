/* SPDX-License-Identifier: BSD-3-Clause */

/* The layout of a segment.  This header and the layout-*.h that it includes
 * are the ONLY place that knows its structs and offsets: layout-header.h the
 * header, layout-request.h what server and clients exchange, layout-table.h
 * the snapshot table, layout-bitmaps.h the bitmap directory, layout-points.h
 * the points, layout-writes.h the write-back buffer and the changes in flight.
 * docs/segment.md names the writer of each field.
 *
 *   header      4 KiB                       filter writes
 *   doorbell    4 KiB        } the shared   both write
 *   clients     64 x 64      } window,      the client itself writes
 *   slots       64 x 128     } contiguous   both write, by slot state
 *   buffers     64 x 256 KiB }              both write, by slot state
 *   snapshots   64 x 2 KiB                  filter writes
 *   directory   640 x 64                    filter writes
 *   points      256 x 256                   filter writes
 *   in flight   1024 x 32                   filter alone
 *   write-back  cells, and a cluster for each         filter alone
 *   bitmaps     where the directory says              filter writes
 *
 * Clients map everything read-only but the shared window.  All offsets
 * follow from the disk size and the cluster size, and are written in the
 * header too; attaching compares.  The file ends behind the last bitmap
 * that there has ever been, so it is long only if needed.
 *
 * There are no pointers, and every integer has a fixed width and is in
 * the byte order of the machine: a segment never leaves its machine.
 */

#ifndef CBW_LAYOUT_H
#define CBW_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout-bitmaps.h"
#include "segment/layout-header.h"
#include "segment/layout-points.h"
#include "segment/layout-request.h"
#include "segment/layout-table.h"
#include "segment/layout-writes.h"
#include "utils/bitmap.h"
#include "utils/error.h"

#define CBW_STRUCT_SIZES                                                \
  ((uint32_t) (sizeof (struct cbw_header) / 64 << 24 |                  \
               sizeof (struct cbw_client) / 64 << 16 |                  \
               sizeof (struct cbw_slot) / 64 << 8 |                     \
               sizeof (struct cbw_snapshot) / 64))

/* A mapped segment. */
struct cbw_map {
  unsigned char *base;
  struct cbw_geometry geometry; /* our own, checked copy */

  /* Where the bitmaps are, bytes from the start; 0: there is none.
   * Our own, too, from a checked copy of the directory (directory.h).
   */
  uint64_t bitmaps[CBW_NR_SNAPSHOTS][CBW_BACKUP_BITMAPS];
  uint64_t changed[CBW_NR_POINTS]; /* of the points */
  uint64_t hot;                 /* of the disk */
};

/* The geometry of a segment for a disk of disk_size bytes (0 to
 * CBW_DISK_SIZE_MAX) in clusters of cluster_size (power of two,
 * CBW_CLUSTER_SIZE_MIN to MAX), with a write-back buffer of nr_cells
 * clusters (CBW_WRITEBACK_MAX bytes at most).  The caller has checked them.
 */
extern void layout_geometry (uint64_t disk_size, uint32_t cluster_size,
                             uint32_t nr_cells, struct cbw_geometry *g);

/* Check the header of a file of file_size bytes which claims to be a
 * segment.  "path" is for the message.  Returns -1 with the error EINVAL
 * (foreign), EPROTO (another version, or unknown features) or EBADMSG
 * (corrupt).
 */
extern int layout_check (const struct cbw_header *h, uint64_t file_size,
                         const char *path, struct error *e);

/* Is it a file of file_size bytes, none or more, whose making was
 * interrupted before it was published?  Then it may be made anew.
 */
extern bool layout_is_unfinished (const struct cbw_header *h,
                                  uint64_t file_size);

/* FNV-1a, 64 bits: tells flipped bits, not attackers. */
extern uint64_t layout_sum (const void *data, size_t len);

/* Length of a file which has so many bitmaps, side by side. */
static inline uint64_t
layout_file_size (const struct cbw_geometry *g, unsigned nr_bitmaps)
{
  return g->bitmaps_offset + nr_bitmaps * g->bitmap_size;
}

/* How many clusters a disk of "size" bytes has. */
static inline uint64_t
layout_clusters (const struct cbw_geometry *g, uint64_t size)
{
  return size / g->cluster_size + (size % g->cluster_size != 0);
}

/* Have the bitmaps room for a snapshot of "size" bytes?  The disk may have
 * grown since the segment was made; bitmaps are whole pages.
 */
static inline bool
layout_has_room (const struct cbw_geometry *g, uint64_t size)
{
  return size <= CBW_DISK_SIZE_MAX &&
    bitmap_bytes (layout_clusters (g, size)) <= g->bitmap_size;
}

static inline struct cbw_header *
map_header (const struct cbw_map *m)
{
  return (struct cbw_header *) m->base;
}

static inline struct cbw_doorbell *
map_doorbell (const struct cbw_map *m)
{
  return (struct cbw_doorbell *) (m->base + m->geometry.doorbell_offset);
}

static inline struct cbw_direct_counters *
map_direct_counters (const struct cbw_map *m, unsigned client)
{
  return (struct cbw_direct_counters *)
    (m->base + m->geometry.doorbell_offset + CBW_DIRECT_COUNTERS_OFFSET) +
    client;
}

static inline _Atomic (uint64_t) *
map_lost_target (const struct cbw_map *m, unsigned entry)
{
  return (_Atomic (uint64_t) *)
    (m->base + m->geometry.doorbell_offset + CBW_LOST_TARGETS_OFFSET) + entry;
}

static inline struct cbw_client *
map_client (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_client *) (m->base + m->geometry.clients_offset) + i;
}

static inline struct cbw_slot *
map_slot (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_slot *) (m->base + m->geometry.slots_offset) + i;
}

static inline void *
map_buffer (const struct cbw_map *m, unsigned i)
{
  return m->base + m->geometry.buffers_offset +
    (size_t) i * m->geometry.slot_buffer_size;
}

static inline struct cbw_snapshot *
map_snapshot (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_snapshot *) (m->base + m->geometry.snapshots_offset) + i;
}

static inline unsigned
map_snapshot_index (const struct cbw_map *m, const struct cbw_snapshot *entry)
{
  return (unsigned) (entry - map_snapshot (m, 0));
}

static inline struct cbw_point *
map_point (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_point *) (m->base + m->geometry.points_offset) + i;
}

static inline struct cbw_inflight *
map_inflight (const struct cbw_map *m)
{
  return (struct cbw_inflight *) (m->base + m->geometry.inflight_offset);
}

static inline struct cbw_cell *
map_cell (const struct cbw_map *m, unsigned i)
{
  return (struct cbw_cell *) (m->base + m->geometry.cells_offset) + i;
}

static inline uint64_t
layout_cells_size (uint32_t nr_cells)
{
  return (nr_cells * sizeof (struct cbw_cell) + CBW_PAGE - 1) / CBW_PAGE *
    CBW_PAGE;
}

/* The cluster that cell i holds. */
static inline void *
map_cell_data (const struct cbw_map *m, unsigned i)
{
  return m->base + m->geometry.cells_offset +
    layout_cells_size (m->geometry.nr_cells) +
    (size_t) i * m->geometry.cluster_size;
}

/* How many bitmaps has a snapshot with these options? */
static inline unsigned
layout_bitmaps (const struct cbw_options *options)
{
  return options->backup ? CBW_BACKUP_BITMAPS : CBW_SNAPSHOT_BITMAPS;
}

/* The bitmap of snapshot entry i, for a snapshot of "size" bytes.  It is
 * there: segment_has_bitmaps, or segment_find_bitmaps, has said so.
 */
static inline struct bitmap
map_bitmap (const struct cbw_map *m, unsigned i, enum cbw_bitmap_kind kind,
            uint64_t size)
{
  const struct cbw_geometry *g = &m->geometry;

  return (struct bitmap) {
    .words = (void *) (m->base + m->bitmaps[i][kind]),
    .nbits = (size + g->cluster_size - 1) / g->cluster_size,
  };
}

/* The changed bitmap of point i, when the disk had "size" bytes.  It is
 * there: segment_allocate_changed has made it.
 */
static inline struct bitmap
map_changed (const struct cbw_map *m, unsigned i, uint64_t size)
{
  return (struct bitmap) {
    .words = (void *) (m->base + m->changed[i]),
    .nbits = layout_clusters (&m->geometry, size),
  };
}

/* Bytes that a bit of the hot bitmap stands for: a power of two, a cluster at
 * least.
 */
extern uint64_t layout_hot_region (const struct cbw_geometry *g);

/* How many regions there can be, as far as the other bitmaps have room; and
 * how many bytes, whole pages, a bitmap of them takes.
 */
extern uint64_t layout_hot_regions (const struct cbw_geometry *g);
extern uint64_t layout_hot_size (const struct cbw_geometry *g);

/* It is there: segment_allocate_hot has made it. */
static inline struct bitmap
map_hot (const struct cbw_map *m)
{
  return (struct bitmap) {
    .words = (void *) (m->base + m->hot),
    .nbits = layout_hot_regions (&m->geometry),
  };
}

#endif /* CBW_LAYOUT_H */
