/* SPDX-License-Identifier: BSD-3-Clause */

/* The layout of a segment: the ONLY place that knows its structs and
 * offsets.  nbdkit-cbw-segment(5) is the prose beside it.
 *
 *   header      4 KiB                       filter writes
 *   doorbell    4 KiB        } the shared   both write
 *   clients     64 x 64      } window,      the client itself writes
 *   slots       64 x 128     } contiguous   both write, by slot state
 *   buffers     64 x 256 KiB }              both write, by slot state
 *   snapshots   64 x 2 KiB                  filter writes
 *   in flight   1024 x 32                   filter alone
 *   write-back  cells, and a cluster for each         filter alone
 *   bitmaps     per snapshot: access, done, dirty     filter writes
 *
 * Clients map everything read-only but the shared window.  All offsets
 * follow from the disk size and the cluster size, and are written in the
 * header too; attaching compares.  The file ends behind the bitmaps of
 * the highest snapshot entry ever used, so it is long only if needed.
 *
 * There are no pointers, and every integer has a fixed width and is in
 * the byte order of the machine: a segment never leaves its machine.
 */

#ifndef CBW_LAYOUT_H
#define CBW_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utils/bitmap.h"
#include "utils/error.h"

#define CBW_MAGIC UINT64_C (0x31574243444b424e) /* "NBKDCBW1" */
#define CBW_VERSION UINT32_C (3)

#define CBW_NR_CLIENTS 64
#define CBW_NR_SLOTS 64
#define CBW_NR_SNAPSHOTS 64

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
  uint32_t reserved;
  uint64_t doorbell_offset;     /* of the regions, bytes from the start */
  uint64_t clients_offset;
  uint64_t slots_offset;
  uint64_t buffers_offset;
  uint64_t snapshots_offset;
  uint64_t inflight_offset;
  uint64_t cells_offset;
  uint64_t bitmaps_offset;
  uint64_t bitmap_size;         /* bytes of one bitmap, whole pages */
};
static_assert (sizeof (struct cbw_geometry) == 112, "cbw_geometry");

/* What the filter is doing, for those who look at the header.  Whether
 * it is alive is told by its lock alone (liveness.h).
 */
enum cbw_server_state {
  CBW_SERVER_NONE = 0,          /* the segment is being made */
  CBW_SERVER_RUNNING = 1,
  CBW_SERVER_STOPPED = 2,       /* it ended in good order */
};

struct cbw_header {
  /* Fixed for the life of the segment. */
  uint64_t magic;
  uint32_t version;
  uint32_t struct_sizes;        /* CBW_STRUCT_SIZES */
  struct cbw_geometry geometry;
  uint64_t geometry_sum;        /* layout_sum of geometry */
  uint8_t uuid[16];             /* names this segment */

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

  /* Only the filter, which holds its control lock. */
  _Alignas (CBW_CACHE_LINE)
  uint64_t next_snapshot_id;    /* ids are never used twice; 0 is none */

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
};
static_assert (sizeof (struct cbw_header) == 448, "cbw_header");
static_assert (offsetof (struct cbw_header, state) == 192, "cbw_header");

/* Words that all sides ring and sleep on. */
struct cbw_doorbell {
  _Atomic (uint64_t) pending;   /* bit i: slot i may be SUBMITTED */
  _Atomic (uint32_t) submitted; /* futex: +1 for each ring */
  _Atomic (uint32_t) waking;    /* 1: a thread was woken and will look */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) freed;     /* futex: +1 for each slot freed */
  _Atomic (uint32_t) freed_waiters; /* about to sleep on "freed" */
};
static_assert (sizeof (struct cbw_doorbell) == 128, "cbw_doorbell");

/* One for each attached process; it is in use while its byte is locked. */
struct cbw_client {
  _Atomic (uint32_t) incarnation; /* +1 each time the entry is taken */
  uint32_t pid;                 /* for people; nobody trusts it */
  uint64_t start_ns;            /* time of day */
  char name[48];                /* of the program, NUL-terminated */
};
static_assert (sizeof (struct cbw_client) == 64, "cbw_client");

enum cbw_request_kind {
  CBW_REQUEST_READ = 1,         /* data of the view into the buffer */
  CBW_REQUEST_EXTENTS = 2,      /* struct cbw_extent[count] into it */
  CBW_REQUEST_CACHE = 3,        /* prefetch */
  CBW_REQUEST_DISCARD = 4,      /* will not be read any more */
  CBW_REQUEST_CREATE = 16,      /* take a snapshot; struct cbw_control */
  CBW_REQUEST_DROP = 17,        /* drop one; struct cbw_control */
  CBW_REQUEST_BACKUP = 18,      /* as CREATE, and fill the target */
  CBW_REQUEST_JOB = 19,         /* control a backup; struct cbw_control */
};

/* Requests of those who manage snapshots, not of those who read them. */
static inline bool
request_is_control (uint32_t kind)
{
  return kind >= CBW_REQUEST_CREATE;
}

struct cbw_slot {
  _Atomic (uint32_t) state;     /* futex: state and owner, see slots.h */

  /* The request; the owner writes it in state CLAIMED. */
  uint32_t kind;                /* enum cbw_request_kind */
  uint64_t snapshot;            /* id of the snapshot */
  uint64_t offset;              /* bytes */
  uint64_t length;              /* bytes */

  /* The reply; the filter writes it in state RUNNING. */
  int32_t status;               /* 0 or an errno */
  uint32_t count;               /* of extents */

  uint8_t reserved[88];
};
static_assert (sizeof (struct cbw_slot) == 128, "cbw_slot");

#define CBW_EXTENT_HOLE 1u      /* the bits of NBD's base:allocation */
#define CBW_EXTENT_ZERO 2u

struct cbw_extent {
  uint64_t length;              /* bytes; the first begins at the offset */
  uint32_t type;                /* CBW_EXTENT_* */
  uint32_t reserved;
};
static_assert (sizeof (struct cbw_extent) == 16, "cbw_extent");

#define CBW_EXTENTS_MAX (CBW_SLOT_BUFFER_SIZE / sizeof (struct cbw_extent))

/*   EMPTY -> RESERVED -> LIVE -> (BROKEN ->) HIDDEN -> EMPTY
 *
 * RESERVED: target recorded and being made; undone by the next server.
 * LIVE: set by one store when everything is in place.
 * BROKEN: sticky; the guest's writes no longer preserve for it.
 * HIDDEN: dropped, set by one store; gone for users, kept as long as an
 * older snapshot needs what its target holds.
 */
enum cbw_snapshot_state {
  CBW_SNAPSHOT_EMPTY = 0,
  CBW_SNAPSHOT_RESERVED = 1,
  CBW_SNAPSHOT_LIVE = 2,
  CBW_SNAPSHOT_BROKEN = 3,
  CBW_SNAPSHOT_HIDDEN = 4,
};

enum cbw_broken_reason {
  CBW_BROKEN_COPY = 1,          /* old data could not be preserved */
  CBW_BROKEN_REBOOT = 2,        /* the host went down uncleanly */
  CBW_BROKEN_TARGET = 3,        /* the target is gone or was changed */
  CBW_BROKEN_SOURCE = 4,        /* guests have disks of their own */
};

#define CBW_NAME_MAX 64         /* with the NUL */
#define CBW_TARGET_MAX 1024

#define CBW_TARGET_RAW 1u       /* kinds of target: a file */
#define CBW_TARGET_NBD 2u       /* an NBD server */

/* Flags of a target. */
#define CBW_TARGET_ZEROES 1u    /* an export: it read as zeroes when new */
#define CBW_TARGET_REPLACE 2u   /* a file: replaces an older one, when whole */
#define CBW_TARGET_PARTIAL 4u   /* a file: has another name until it is whole,
                                 * see snaptab_target */

/* What a copy that fails does. */
enum cbw_on_error {
  CBW_ON_ERROR_BREAK_SNAPSHOT = 0,
  CBW_ON_ERROR_BREAK_GUEST_WRITE = 1,
};

/* What an error of a backup's fill does: the names, and what they mean,
 * are QEMU's.
 */
enum cbw_on_fill_error {
  CBW_FILL_REPORT = 0,          /* the backup fails */
  CBW_FILL_IGNORE = 1,          /* go on, and try again later */
  CBW_FILL_STOP = 2,            /* wait to be resumed */
  CBW_FILL_ENOSPC = 3,          /* STOP if there is no space, else REPORT */
};

/* How a snapshot behaves; fixed when it is made. */
struct cbw_options {
  uint32_t on_error;            /* enum cbw_on_error */
  uint8_t backup;               /* 1: the target is to be a whole image */
  uint8_t on_source_error;      /* of a backup: enum cbw_on_fill_error */
  uint8_t on_target_error;      /* the same */
  uint8_t reserved;
  uint64_t timeout_ns;          /* of a copy; 0: none */
  uint64_t stall_ns;            /* how long a full target is waited for */
  uint64_t quota;               /* bytes the target may hold; 0: any */
};
static_assert (sizeof (struct cbw_options) == 32, "cbw_options");

#define CBW_CREATE_FORCE 1u     /* overwrite a target that holds data */
#define CBW_CREATE_OWNED 2u     /* drop it when the creating client dies */
#define CBW_CREATE_FLAGS (CBW_CREATE_FORCE | CBW_CREATE_OWNED)

/* How long guests' changes may be held while those under way are drained,
 * in nanoseconds: unless a request says otherwise, and at most.
 */
#define CBW_HOLD_DEFAULT UINT64_C (200000000)
#define CBW_HOLD_MAX UINT64_C (10000000000)

/* What JOB asks for.  Done twice, each is the same as done once. */
enum cbw_job_action {
  CBW_JOB_PAUSE = 1,
  CBW_JOB_RESUME = 2,
  CBW_JOB_SPEED = 3,
};

/* What CREATE, BACKUP, DROP and JOB carry in the slot's buffer.  A server
 * that takes over runs them again: the uuid, or the id in the slot, tells
 * it that it was done already.
 */
struct cbw_control {
  char name[CBW_NAME_MAX];      /* CREATE: NUL-terminated */
  char target[CBW_TARGET_MAX];  /* CREATE: absolute path, or NBD server */
  char access[CBW_TARGET_MAX];  /* CREATE: absolute path, or "": all */
  uint8_t uuid[16];             /* CREATE: of the new snapshot, random */
  struct cbw_options options;   /* CREATE */
  uint32_t flags;               /* CREATE: CBW_CREATE_* */
  uint32_t action;              /* JOB: enum cbw_job_action */
  uint64_t speed;               /* BACKUP, JOB: bytes/s; 0: any */
  uint64_t hold_ns;             /* CREATE, BACKUP, DROP: how long guests may
                                 * be held; 0: CBW_HOLD_DEFAULT */

  uint64_t held_ns;             /* reply: how long guests' writes waited */
  char message[ERROR_MSG_MAX];  /* reply: if it failed, why */
};
static_assert (sizeof (struct cbw_control) == 3216, "cbw_control");

/*   NONE       RUNNING <-> PAUSED
 *                 ^ |
 *                 | +--> STOPPED --> (RUNNING)
 *                 | +--> COMPLETE
 *                   `--> FAILED
 *
 * Kept in the segment, so that the next server goes on with it.
 */
enum cbw_fill_state {
  CBW_FILL_NONE = 0,            /* no backup */
  CBW_FILL_RUNNING = 1,
  CBW_FILL_PAUSED = 2,          /* by a request */
  CBW_FILL_STOPPED = 3,         /* by an error, until it is resumed */
  CBW_FILL_COMPLETE = 4,        /* the image is whole and synced: final */
  CBW_FILL_FAILED = 5,          /* it never will be: final */
};

/* How the filling of a backup's target stands; the filter writes it. */
struct cbw_fill {
  _Atomic (uint32_t) state;     /* enum cbw_fill_state */
  _Atomic (uint32_t) errors;    /* so far; the first is kept below */
  _Atomic (uint64_t) speed;     /* bytes/s; 0: any */
  _Atomic (uint64_t) bytes;     /* read by the fill */
  _Atomic (uint64_t) moved_clusters; /* whole in the target, but not done:
                                      * a newer snapshot had them */
  int32_t error_num;            /* errno; before "errors" is 1 */
  uint32_t error_is_read;       /* 1: reading, 0: writing the target */
  uint64_t error_offset;        /* bytes */
  uint64_t error_ns;            /* time of day */
  uint64_t end_ns;              /* time of day; before COMPLETE, FAILED */
};
static_assert (sizeof (struct cbw_fill) == 64, "cbw_fill");

struct cbw_snapshot {
  /* Written in state RESERVED, then fixed; sum covers them. */
  uint64_t id;                  /* larger means newer */
  uint64_t size;                /* of the disk at that moment, bytes */
  uint64_t created_ns;          /* time of day */
  uint8_t uuid[16];
  char name[CBW_NAME_MAX];
  uint32_t target_kind;         /* CBW_TARGET_* */
  uint32_t target_created;      /* 1: made by us, so ours to remove */
  uint64_t target_device;       /* identity of the file, or 0 */
  uint64_t target_inode;
  char target[CBW_TARGET_MAX];  /* absolute path, or NBD server */
  uint32_t owner;               /* client's tag (slots.h), or 0: nobody */
  uint32_t target_flags;        /* CBW_TARGET_ZEROES and so on */
  struct cbw_options options;
  uint64_t sum;                 /* layout_sum of all before it */

  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) state;     /* enum cbw_snapshot_state */

  /* The first failure, whether or not it broke the snapshot: written
   * once, then "failed" is set (release).
   */
  _Atomic (uint32_t) failed;
  int32_t error_num;            /* errno */
  uint32_t error_reason;        /* enum cbw_broken_reason */
  uint64_t error_offset;        /* bytes */
  uint64_t error_ns;            /* time of day */

  /* When guest writes that wait for space give up, time of day; 0: none
   * waits.  Relaxed.
   */
  _Atomic (uint64_t) stalled_until_ns;

  /* Counters, relaxed. */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) copied_clusters; /* done, zero ones included */
  _Atomic (uint64_t) copied_bytes; /* written to the target */
  _Atomic (uint64_t) held_bytes; /* the same, less what was given back */

  /* Of an NBD server: what was written last, see image_nbd_reopen. */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) target_words[24];

  _Alignas (CBW_CACHE_LINE)
  struct cbw_fill fill;

  uint8_t reserved3[448];
};
static_assert (sizeof (struct cbw_snapshot) == 2048, "cbw_snapshot");
static_assert (offsetof (struct cbw_snapshot, sum) == 1192, "cbw_snapshot");

enum cbw_cell_state {
  CBW_CELL_FREE = 0,
  CBW_CELL_FULL = 1,
};

/* One cluster of old data that is on its way to a snapshot's target.  The
 * rest is written before the state is set to FULL (release), which comes
 * before the cluster's done bit; it is FREE again when the target has it.
 */
struct cbw_cell {
  _Atomic (uint32_t) state;     /* enum cbw_cell_state */
  uint32_t reserved;
  uint64_t snapshot;            /* id */
  uint64_t cluster;
  uint64_t reserved2;
};
static_assert (sizeof (struct cbw_cell) == 32, "cbw_cell");

/*   FREE -> CLAIMED -> UNDER_WAY -> FREE
 *                          `-----> SUSPECT
 *
 * CLAIMED: being written; its change has not gone to the source.
 * UNDER_WAY: it may have, or is about to.
 * SUSPECT: nobody waits for the change any more, but it may still be under
 * way in the source's server.
 */
enum cbw_inflight_state {
  CBW_INFLIGHT_FREE = 0,
  CBW_INFLIGHT_CLAIMED = 1,
  CBW_INFLIGHT_UNDER_WAY = 2,
  CBW_INFLIGHT_SUSPECT = 3,
};

/* A guest's change of the source that is under way.  Only the filter looks
 * at it; filters/cbw/guest/inflight.h.
 */
struct cbw_inflight {
  _Atomic (uint32_t) state;     /* enum cbw_inflight_state */
  uint32_t reserved;
  uint64_t offset;              /* bytes */
  uint64_t count;               /* bytes */
  uint64_t reserved2;
};
static_assert (sizeof (struct cbw_inflight) == 32, "cbw_inflight");

#define CBW_STRUCT_SIZES                                                \
  ((uint32_t) (sizeof (struct cbw_header) / 64 << 24 |                  \
               sizeof (struct cbw_client) / 64 << 16 |                  \
               sizeof (struct cbw_slot) / 64 << 8 |                     \
               sizeof (struct cbw_snapshot) / 64))

/* A mapped segment. */
struct cbw_map {
  unsigned char *base;
  struct cbw_geometry geometry; /* our own, checked copy */
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
 * (foreign), EPROTO (another version) or EBADMSG (corrupt).
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

/* Length of the file while entries [0, nr_entries) may be in use, and of
 * the largest file there can be, which is what the filter maps.
 */
static inline uint64_t
layout_file_size (const struct cbw_geometry *g, unsigned nr_entries)
{
  return g->bitmaps_offset + nr_entries * 3 * g->bitmap_size;
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

enum cbw_bitmap_kind {
  CBW_BITMAP_ACCESS = 0,        /* the cluster may be read by clients */
  CBW_BITMAP_DONE = 1,          /* its old data is in the target */
  CBW_BITMAP_DIRTY = 2,         /* written since, or of a backup whole in
                                 * the target: implies nothing to copy */
};

/* The bitmap of snapshot entry i, for a snapshot of "size" bytes. */
static inline struct bitmap
map_bitmap (const struct cbw_map *m, unsigned i, enum cbw_bitmap_kind kind,
            uint64_t size)
{
  const struct cbw_geometry *g = &m->geometry;

  return (struct bitmap) {
    .words = (void *) (m->base + g->bitmaps_offset +
                       (3 * (uint64_t) i + kind) * g->bitmap_size),
    .nbits = (size + g->cluster_size - 1) / g->cluster_size,
  };
}

#endif /* CBW_LAYOUT_H */
