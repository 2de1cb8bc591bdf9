/* SPDX-License-Identifier: BSD-3-Clause */

/* Computing the layout of a segment, and checking the layout that a file
 * claims.  Attaching computes the layout anew, and refuses a file that says
 * something else.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "segment/layout.h"
#include "utils/rounding.h"

void
layout_geometry (uint64_t disk_size, uint32_t cluster_size,
                 uint32_t nr_cells, struct cbw_geometry *g)
{
  const uint64_t clusters = (disk_size + cluster_size - 1) / cluster_size;
  uint64_t offset = CBW_PAGE;

  memset (g, 0, sizeof *g);
  g->disk_size = disk_size;
  g->cluster_size = cluster_size;
  g->nr_clients = CBW_NR_CLIENTS;
  g->nr_slots = CBW_NR_SLOTS;
  g->nr_snapshots = CBW_NR_SNAPSHOTS;
  g->slot_buffer_size = CBW_SLOT_BUFFER_SIZE;
  g->nr_cells = nr_cells;
  g->nr_inflight = CBW_NR_INFLIGHT;
  g->nr_bitmaps = CBW_NR_BITMAPS;
  g->nr_points = CBW_NR_POINTS;

  g->doorbell_offset = offset;
  offset += CBW_PAGE;
  g->clients_offset = offset;
  offset += round_up (CBW_NR_CLIENTS * sizeof (struct cbw_client), CBW_PAGE);
  g->slots_offset = offset;
  offset += round_up (CBW_NR_SLOTS * sizeof (struct cbw_slot), CBW_PAGE);
  g->buffers_offset = offset;
  offset += (uint64_t) CBW_NR_SLOTS * CBW_SLOT_BUFFER_SIZE;
  g->snapshots_offset = offset;
  offset += round_up (CBW_NR_SNAPSHOTS * sizeof (struct cbw_snapshot),
                      CBW_PAGE);
  g->directory_offset = offset;
  offset += round_up (CBW_NR_BITMAPS * sizeof (struct cbw_bitmap_record),
                      CBW_PAGE);
  g->points_offset = offset;
  offset += round_up (CBW_NR_POINTS * sizeof (struct cbw_point), CBW_PAGE);
  g->inflight_offset = offset;
  offset += round_up (CBW_NR_INFLIGHT * sizeof (struct cbw_inflight),
                      CBW_PAGE);
  g->cells_offset = offset;
  offset += layout_cells_size (nr_cells) + (uint64_t) nr_cells * cluster_size;
  g->bitmaps_offset = offset;
  g->bitmap_size = round_up (max_u64 (bitmap_bytes (clusters), 1), CBW_PAGE);
}

uint64_t
layout_sum (const void *data, size_t len)
{
  const unsigned char *p = data;
  uint64_t sum = UINT64_C (0xcbf29ce484222325);
  size_t i;

  for (i = 0; i < len; ++i)
    sum = (sum ^ p[i]) * UINT64_C (0x100000001b3);
  return sum;
}

bool
layout_is_unfinished (const struct cbw_header *h, uint64_t file_size)
{
  if (file_size == 0)
    return true;
  /* The header is written in one go: without a whole one the file was
   * truncated.
   */
  return file_size >= sizeof *h &&
    h->magic == CBW_MAGIC && h->version == CBW_VERSION &&
    (h->incompat & ~CBW_INCOMPAT_KNOWN) == 0 &&
    h->generation == 0 &&
    atomic_load_explicit (&h->state, memory_order_acquire) == CBW_SERVER_NONE;
}

/* Why segments of an older version are refused, and not taken up. */
static const char *
old_version (uint32_t version)
{
  switch (version) {
  case 2: return "has no room to note guests' writes that a server leaves "
      "under way, so that new snapshots could change";
  case 3: return "has no directory of its bitmaps, so that this program "
      "would not find them";
  default: return NULL;
  }
}

uint64_t
layout_hot_region (const struct cbw_geometry *g)
{
  uint64_t size = g->cluster_size;

  while (size < CBW_HOT_REGION ? g->disk_size / size > CBW_HOT_REGIONS_MIN :
         g->disk_size / size >= CBW_HOT_REGIONS_MAX)
    size *= 2;
  return size;
}

uint64_t
layout_hot_regions (const struct cbw_geometry *g)
{
  const uint64_t region = layout_hot_region (g);

  return (g->bitmap_size * 8 + region / g->cluster_size - 1) /
    (region / g->cluster_size);
}

uint64_t
layout_hot_size (const struct cbw_geometry *g)
{
  return (bitmap_bytes (layout_hot_regions (g)) + CBW_PAGE - 1) / CBW_PAGE *
    CBW_PAGE;
}

static int
check_version (const struct cbw_header *h, const char *path, struct error *e)
{
  const char *why = old_version (h->version);

  if (why)
    return error_set (e, EPROTO, "%s: is a segment of version %" PRIu32
                      ", which %s; continue with the nbdkit-cbw that made "
                      "it until its snapshots are no longer needed, then "
                      "remove it", path, h->version, why);
  if (h->version != CBW_VERSION || h->struct_sizes != CBW_STRUCT_SIZES)
    return error_set (e, EPROTO, "%s: is a segment of another version "
                      "(version %" PRIu32 ", structs %08" PRIx32
                      "; this program knows version %" PRIu32
                      ", structs %08" PRIx32 ")", path, h->version,
                      h->struct_sizes, CBW_VERSION, CBW_STRUCT_SIZES);
  if (h->incompat & ~CBW_INCOMPAT_KNOWN)
    return error_set (e, EPROTO, "%s: is a segment with features that this "
                      "program does not know (%016" PRIx64 "); use the newer "
                      "nbdkit-cbw that made it, or if its snapshots are of "
                      "no use any more, remove it", path,
                      h->incompat & ~CBW_INCOMPAT_KNOWN);
  return 0;
}

int
layout_check (const struct cbw_header *h, uint64_t file_size,
              const char *path, struct error *e)
{
  const struct cbw_geometry *g = &h->geometry;
  struct cbw_geometry expected;

  if (file_size < CBW_PAGE || h->magic != CBW_MAGIC)
    return error_set (e, EINVAL, "%s: is not a segment of nbdkit-cbw", path);
  if (check_version (h, path, e) == -1)
    return -1;
  if (h->geometry_sum != layout_sum (g, sizeof *g))
    return error_set (e, EBADMSG, "%s: is corrupt: "
                      "the checksum of its header is wrong", path);

  /* A right sum under wrong numbers is a bug or an attack: check on. */
  if (g->disk_size > CBW_DISK_SIZE_MAX ||
      !is_power_of_2 (g->cluster_size) ||
      g->cluster_size < CBW_CLUSTER_SIZE_MIN ||
      g->cluster_size > CBW_CLUSTER_SIZE_MAX ||
      g->nr_cells > CBW_WRITEBACK_MAX / g->cluster_size)
    return error_set (e, EBADMSG, "%s: is corrupt: disk size %" PRIu64
                      ", cluster size %" PRIu32 ", %" PRIu32 " cells", path,
                      g->disk_size, g->cluster_size, g->nr_cells);
  layout_geometry (g->disk_size, g->cluster_size, g->nr_cells, &expected);
  if (memcmp (g, &expected, sizeof expected) != 0)
    return error_set (e, EBADMSG, "%s: is corrupt: "
                      "its regions are not where they belong", path);
  if (file_size < layout_file_size (g, 0))
    return error_set (e, EBADMSG, "%s: is truncated: it has %" PRIu64
                      " bytes, and needs %" PRIu64, path, file_size,
                      layout_file_size (g, 0));
  return 0;
}
