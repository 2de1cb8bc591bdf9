/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include "segment/layout.h"
#include "unit.h"

static struct cbw_header
make_header (uint64_t disk_size, uint32_t cluster_size)
{
  struct cbw_header h;

  memset (&h, 0, sizeof h);
  h.magic = CBW_MAGIC;
  h.version = CBW_VERSION;
  h.struct_sizes = CBW_STRUCT_SIZES;
  layout_geometry (disk_size, cluster_size, 0, &h.geometry);
  h.geometry_sum = layout_sum (&h.geometry, sizeof h.geometry);
  h.state = CBW_SERVER_RUNNING;
  return h;
}

static void
test_regions (void)
{
  static const uint64_t sizes[] = {
    0, 1, 511, 4096, 4097, 1 << 20, UINT64_C (1) << 40, CBW_DISK_SIZE_MAX
  };
  struct cbw_geometry g;
  uint64_t clusters;
  uint32_t cs;
  size_t i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i)
    for (cs = CBW_CLUSTER_SIZE_MIN; cs <= CBW_CLUSTER_SIZE_MAX; cs *= 2) {
      layout_geometry (sizes[i], cs, 0, &g);
      clusters = sizes[i] / cs + (sizes[i] % cs != 0);
      CHECK (g.bitmap_size * 8 >= clusters && g.bitmap_size > 0);
      CHECK (g.bitmap_size % CBW_PAGE == 0);
      /* In order, on pages, without overlap. */
      CHECK (g.doorbell_offset >= sizeof (struct cbw_header));
      CHECK (g.clients_offset >=
             g.doorbell_offset + sizeof (struct cbw_doorbell));
      CHECK (g.slots_offset >=
             g.clients_offset + g.nr_clients * sizeof (struct cbw_client));
      CHECK (g.buffers_offset >=
             g.slots_offset + g.nr_slots * sizeof (struct cbw_slot));
      CHECK (g.snapshots_offset >= g.buffers_offset +
             (uint64_t) g.nr_slots * g.slot_buffer_size);
      CHECK (g.directory_offset >= g.snapshots_offset +
             g.nr_snapshots * sizeof (struct cbw_snapshot));
      CHECK (g.points_offset >= g.directory_offset +
             g.nr_bitmaps * sizeof (struct cbw_bitmap_record));
      CHECK (g.inflight_offset >= g.points_offset +
             g.nr_points * sizeof (struct cbw_point));
      CHECK (g.bitmaps_offset >= g.inflight_offset +
             g.nr_inflight * sizeof (struct cbw_inflight));
      CHECK ((g.doorbell_offset | g.clients_offset | g.slots_offset |
              g.buffers_offset | g.snapshots_offset | g.directory_offset |
              g.points_offset | g.inflight_offset | g.bitmaps_offset) %
             CBW_PAGE == 0);
      CHECK_EQ (layout_file_size (&g, 6),
                g.bitmaps_offset + 6 * g.bitmap_size);
      /* The hot bitmap covers all that the others have room for. */
      CHECK (layout_hot_region (&g) >= cs);
      CHECK (layout_hot_regions (&g) >=
             g.bitmap_size * 8 / (layout_hot_region (&g) / cs));
      CHECK (layout_hot_size (&g) % CBW_PAGE == 0 &&
             layout_hot_size (&g) * 8 >= layout_hot_regions (&g));
    }
}

static void
check_region (uint64_t disk_size, uint32_t cluster_size, uint64_t region)
{
  struct cbw_geometry g;

  layout_geometry (disk_size, cluster_size, 0, &g);
  CHECK_EQ (layout_hot_region (&g), region);
}

static void
test_hot_regions (void)
{
  const uint64_t mib = 1 << 20;

  check_region (0, 4096, 4096);
  check_region (64 * 4096, 4096, 4096);
  check_region (65 * 4096, 4096, 8192);
  check_region (64 * mib, 65536, mib);
  check_region (4096 * mib, 4096, 64 * mib);
  check_region (UINT64_C (1) << 40, 65536, 64 * mib);
  check_region ((UINT64_C (1) << 46) - 1, 65536, 64 * mib);
  check_region (UINT64_C (1) << 46, 65536, 128 * mib);
  check_region (UINT64_C (1) << 50, 65536, 2048 * mib);
  check_region (100, CBW_CLUSTER_SIZE_MAX, CBW_CLUSTER_SIZE_MAX);
}

static void
test_budget (void)
{
  struct cbw_geometry g;

  /* 1 TiB in 64k clusters: under 20 MiB + 3 bits a cluster. */
  layout_geometry (UINT64_C (1) << 40, 64 * 1024, 0, &g);
  CHECK (layout_file_size (&g, 3) < (20 << 20) + 3 * ((1 << 24) / 8));
}

static void
test_check_good (void)
{
  struct cbw_header h = make_header (12345677, 64 << 10);
  struct error e;

  CHECK (layout_check (&h, layout_file_size (&h.geometry, 0), "p", &e) == 0);
  h = make_header (CBW_DISK_SIZE_MAX, CBW_CLUSTER_SIZE_MAX);
  CHECK (layout_check (&h, layout_file_size (&h.geometry, 1), "p", &e) == 0);
}

static void
test_check_foreign (void)
{
  struct cbw_header h = make_header (1 << 20, 64 << 10);
  struct error e;

  CHECK (layout_check (&h, 100, "p", &e) == -1);
  CHECK_ERROR (&e, EINVAL, "not a segment");
  h.magic++;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
  CHECK_ERROR (&e, EINVAL, "not a segment");
}

static void
test_check_version (void)
{
  struct cbw_header h = make_header (1 << 20, 64 << 10);
  struct error e;

  h.version++;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
  CHECK_ERROR (&e, EPROTO, "another version");
  h.version = 2;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
  CHECK_ERROR (&e, EPROTO, "is a segment of version 2");
  h.version = 3;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
  CHECK_ERROR (&e, EPROTO, "is a segment of version 3");
  h = make_header (1 << 20, 64 << 10);
  h.struct_sizes++;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
  CHECK_ERROR (&e, EPROTO, "another version");
}

/* What must be known and is not is refused, whole or unfinished. */
static void
test_check_features (void)
{
  struct cbw_header h = make_header (1 << 20, 64 << 10);
  struct error e;
  unsigned bit;

  h.compat = UINT64_MAX;
  CHECK (layout_check (&h, 1 << 30, "p", &e) == 0);
  for (bit = 0; bit < 64; ++bit) {
    h.incompat = UINT64_C (1) << bit;
    h.state = CBW_SERVER_RUNNING;
    CHECK (layout_check (&h, 1 << 30, "p", &e) == -1);
    CHECK_ERROR (&e, EPROTO, "features that this program does not know");
    h.state = CBW_SERVER_NONE;
    CHECK (!layout_is_unfinished (&h, sizeof h));
  }
}

static void
test_check_truncated (void)
{
  struct cbw_header h = make_header (1 << 20, 64 << 10);
  struct error e;

  CHECK (layout_check (&h, layout_file_size (&h.geometry, 0) - 1, "p",
                       &e) == -1);
  CHECK_ERROR (&e, EBADMSG, "truncated");
}

/* Every bit of the geometry: flipped alone, and with a sum made right. */
static void
test_check_flipped (void)
{
  const struct cbw_header good = make_header ((1 << 20) + 3, 64 << 10);
  struct cbw_header h;
  struct cbw_geometry real;
  struct error e;
  size_t bit;
  unsigned char *g = (unsigned char *) &h.geometry;

  for (bit = 0; bit < 8 * sizeof h.geometry; ++bit) {
    memcpy (&h, &good, sizeof h);
    g[bit / 8] ^= 1 << bit % 8;
    CHECK (layout_check (&h, UINT64_C (1) << 40, "p", &e) == -1);
    CHECK_ERROR (&e, EBADMSG, "corrupt");

    h.geometry_sum = layout_sum (&h.geometry, sizeof h.geometry);
    if (layout_check (&h, UINT64_MAX, "p", &e) == 0) {
      /* Only another disk size or cluster size, with all else as it
       * follows from them.
       */
      layout_geometry (h.geometry.disk_size, h.geometry.cluster_size, 0,
                       &real);
      CHECK (memcmp (&h.geometry, &real, sizeof real) == 0);
      CHECK (h.geometry.disk_size <= CBW_DISK_SIZE_MAX);
    }
    else
      CHECK_EQ (e.num, EBADMSG);
  }
}

/* Numbers that would overflow in the computations are refused first. */
static void
test_check_absurd (void)
{
  static const struct { uint64_t disk_size; uint32_t cluster_size; } t[] = {
    { UINT64_MAX, 64 << 10 }, { CBW_DISK_SIZE_MAX + 1, 64 << 10 },
    { 1 << 20, 0 }, { 1 << 20, 1 }, { 1 << 20, 2048 }, { 1 << 20, 8 << 20 },
    { 1 << 20, 65537 }, { 1 << 20, UINT32_C (1) << 31 },
  };
  struct cbw_header h;
  struct error e;
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    h = make_header (1 << 20, 64 << 10);
    h.geometry.disk_size = t[i].disk_size;
    h.geometry.cluster_size = t[i].cluster_size;
    h.geometry_sum = layout_sum (&h.geometry, sizeof h.geometry);
    CHECK (layout_check (&h, UINT64_MAX, "p", &e) == -1);
    CHECK_ERROR (&e, EBADMSG, "corrupt");
  }
}

static void
test_unfinished (void)
{
  struct cbw_header h = make_header (1 << 20, 64 << 10);

  CHECK (!layout_is_unfinished (&h, sizeof h));
  h.state = CBW_SERVER_NONE;
  CHECK (layout_is_unfinished (&h, sizeof h));
  CHECK (!layout_is_unfinished (&h, sizeof h - 1));
  CHECK (layout_is_unfinished (&h, 0));
  h.magic = 0;
  CHECK (!layout_is_unfinished (&h, sizeof h));
}

static void
test_sum (void)
{
  CHECK_EQ (layout_sum ("", 0), UINT64_C (0xcbf29ce484222325));
  /* From the specification of FNV-1a. */
  CHECK_EQ (layout_sum ("foobar", 6), UINT64_C (0x85944171f73967e8));
}

int
main (void)
{
  unit_start ();
  RUN (test_regions);
  RUN (test_hot_regions);
  RUN (test_budget);
  RUN (test_check_good);
  RUN (test_check_foreign);
  RUN (test_check_version);
  RUN (test_check_features);
  RUN (test_check_truncated);
  RUN (test_check_flipped);
  RUN (test_check_absurd);
  RUN (test_unfinished);
  RUN (test_sum);
  return unit_end ();
}
