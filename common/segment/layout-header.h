/* SPDX-License-Identifier: BSD-3-Clause */

/* The header of a segment, and the numbers that hold for all of it.  Include
 * segment/layout.h, which has the whole layout.
 */

#ifndef CBW_LAYOUT_HEADER_H
#define CBW_LAYOUT_HEADER_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CBW_MAGIC UINT64_C (0x31574243444b424e) /* "NBKDCBW1" */
#define CBW_VERSION UINT32_C (4)

/* The features that this program knows, of the two words in the header.  It
 * refuses a segment with others in "incompat".  Others in "compat" it may
 * ignore, and when it serves the segment it clears them, as it does not keep
 * what they promise: so a bit that is set says that every server since then
 * has known it.
 */
#define CBW_COMPAT_TRACKED UINT64_C (1) /* guests' changes are marked in the
                                         * newest point (layout-points.h) */
#define CBW_COMPAT_KNOWN CBW_COMPAT_TRACKED
#define CBW_INCOMPAT_KNOWN UINT64_C (0)

#define CBW_NR_CLIENTS 64
#define CBW_NR_SLOTS 64
#define CBW_NR_SNAPSHOTS 64
#define CBW_NR_BITMAPS 640      /* records of the bitmap directory */
#define CBW_NR_POINTS 256

/* The last so many slots, and entries of the client table, are kept for
 * control requests: those who read cannot keep anybody from making them.
 */
#define CBW_CONTROL_SLOTS 4
#define CBW_CONTROL_CLIENTS 4

#define CBW_NR_INFLIGHT 1024
#define CBW_SLOT_BUFFER_SIZE (256 * 1024)

#define CBW_CLUSTER_SIZE_MIN (4 * 1024)
#define CBW_CLUSTER_SIZE_MAX (4 * 1024 * 1024)

/* The write-back buffer, if there is one, in bytes and in clusters. */
#define CBW_WRITEBACK_MAX (UINT64_C (16) << 30)
#define CBW_CELLS_MIN 8

#define CBW_PAGE 4096
#define CBW_CACHE_LINE 64

/* Largest disk: offsets must fit an off_t with room for rounding up. */
#define CBW_DISK_SIZE_MAX (INT64_MAX - CBW_CLUSTER_SIZE_MAX)

/* Written once, when the segment is made, and never again. */
struct cbw_geometry {
  uint64_t disk_size;           /* bytes, any number */
  uint32_t cluster_size;        /* bytes, a power of two */
  uint32_t nr_clients;
  uint32_t nr_slots;
  uint32_t nr_snapshots;
  uint32_t slot_buffer_size;    /* bytes */
  uint32_t nr_cells;            /* of the write-back buffer; 0: none */
  uint32_t nr_inflight;
  uint32_t nr_bitmaps;          /* records of the bitmap directory */
  uint32_t nr_points;
  uint32_t reserved;
  uint64_t doorbell_offset;     /* of the regions, bytes from the start */
  uint64_t clients_offset;
  uint64_t slots_offset;
  uint64_t buffers_offset;
  uint64_t snapshots_offset;
  uint64_t directory_offset;
  uint64_t points_offset;
  uint64_t inflight_offset;
  uint64_t cells_offset;
  uint64_t bitmaps_offset;
  uint64_t bitmap_size;         /* bytes of one bitmap, whole pages */
};
static_assert (sizeof (struct cbw_geometry) == 136, "cbw_geometry");

/* What the filter is doing, for those who look at the header.  Whether
 * it is alive is told by its lock alone (liveness.h).
 */
enum cbw_server_state {
  CBW_SERVER_NONE = 0,          /* the segment is being made */
  CBW_SERVER_RUNNING = 1,
  CBW_SERVER_STOPPED = 2,       /* it ended in good order */
};

/* In "alive": the thread has died (FUTEX_OWNER_DIED). */
#define CBW_ALIVE_DIED UINT32_C (0x40000000)

/* Which file the source was when a server last ended in order, and how it
 * was then.
 */
enum cbw_source_kind {
  CBW_SOURCE_UNKNOWN = 0,       /* nothing is recorded */
  CBW_SOURCE_FILE = 1,          /* a local regular file */
};

struct cbw_source_identity {
  uint32_t kind;                /* enum cbw_source_kind */
  uint32_t reserved;
  uint64_t device;
  uint64_t inode;
  uint64_t size;                /* bytes */
  uint64_t mtime_ns;            /* time of day */
  uint64_t sum;                 /* layout_sum of all before it */
};
static_assert (sizeof (struct cbw_source_identity) == 48,
               "cbw_source_identity");

struct cbw_header {
  /* Fixed for the life of the segment. */
  uint64_t magic;
  uint32_t version;
  uint32_t struct_sizes;        /* CBW_STRUCT_SIZES */
  struct cbw_geometry geometry;
  uint64_t geometry_sum;        /* layout_sum of geometry */
  uint8_t uuid[16];             /* names this segment */

  /* Features: each server keeps them as CBW_COMPAT_KNOWN says. */
  uint64_t compat;
  uint64_t incompat;

  /* Set by each server that takes the segment, before it sets "state"
   * (release) to running; read by clients after "state" (acquire).
   */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) state;     /* enum cbw_server_state */
  uint32_t server_pid;          /* for people; nobody trusts it */
  uint64_t server_start_ns;     /* time of day */
  uint64_t generation;          /* servers so far, this one included */
  uint8_t boot_id[16];          /* the boot in which it started */
  uint32_t source_minimum_block; /* block sizes of the source, or 0 */
  uint32_t source_preferred_block;
  uint32_t source_maximum_block;
  uint32_t clean;               /* 1: the last server ended in order */
  uint32_t source_local;        /* 1: a write to the source ends with the
                                 * server's process (plugin.h) */
  uint32_t durable;             /* 1: points, and what is hot, are on stable
                                 * storage, see docs/correctness.md, 27 */

  /* Only the filter, which holds its control lock. */
  _Alignas (CBW_CACHE_LINE)
  uint64_t next_snapshot_id;    /* ids are never used twice; 0 is none */

  /* The id of the point that was the newest when the last flush of the source
   * began that succeeded; 0: there was none.  It only grows.
   */
  _Atomic (uint64_t) flushed_point;

  /* Deltas to snapshots up to this id are whole: newer ones are being made.  It
   * only grows.
   */
  _Atomic (uint64_t) confirmed_id;

  uint32_t source_kept;         /* 1: what was written to the source stays when
                                 * the server's process ends (plugin.h) */

  /* How many service threads sleep.  A client that submits rings the
   * doorbell only if this is not 0 (the argument is in slots.h).
   */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) idle_threads;

  /* Counters since the segment was made; relaxed. */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) requests;  /* slots run */
  _Atomic (uint64_t) read_bytes; /* served to clients */
  _Atomic (uint64_t) reaped;    /* slots taken from dead clients */

  _Atomic (uint64_t) cells_used; /* of the write-back buffer; relaxed */

  /* The chain's generation: odd while the chain of snapshots changes, see
   * filters/cbw/snapshot/generation.h.
   */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) chain_generation;

  /* The id of a thread that lives as long as the server, and 0 when it has
   * stopped.  When the thread dies, the kernel sets CBW_ALIVE_DIED before it
   * closes any file of the process.
   */
  _Atomic (uint32_t) alive;

  /* 1: guests have changed the disk lately.  Set ten times a second. */
  _Atomic (uint32_t) guests_write;

  /* Claims of writes that change nothing (copy/unchanged.h): while there are
   * some, the source may have what a snapshot must not show.
   */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) unchanged_claims;

  _Alignas (CBW_CACHE_LINE)
  struct cbw_source_identity source;
};
static_assert (sizeof (struct cbw_header) == 640, "cbw_header");
static_assert (sizeof (struct cbw_header) <= CBW_PAGE, "cbw_header");
static_assert (offsetof (struct cbw_header, compat) == 176, "cbw_header");
static_assert (offsetof (struct cbw_header, state) == 192, "cbw_header");
static_assert (offsetof (struct cbw_header, alive) == 456, "cbw_header");
static_assert (offsetof (struct cbw_header, unchanged_claims) == 512,
               "cbw_header");

#endif /* CBW_LAYOUT_HEADER_H */
