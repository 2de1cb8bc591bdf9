/* SPDX-License-Identifier: BSD-3-Clause */

/* What server and clients exchange: the doorbell, the client table, the
 * request slots and what lies in their buffers.  slots.h has the rules.
 */

#ifndef CBW_LAYOUT_REQUEST_H
#define CBW_LAYOUT_REQUEST_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "segment/layout-header.h"
#include "segment/layout-table.h"
#include "utils/error.h"

/* Words that all sides ring and sleep on. */
struct cbw_doorbell {
  _Atomic (uint64_t) pending;   /* bit i: slot i may be SUBMITTED */
  _Atomic (uint32_t) submitted; /* futex: +1 for each ring */
  _Atomic (uint32_t) waking;    /* 1: a thread was woken and will look */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint32_t) freed;     /* futex: +1 for each slot freed */
  _Atomic (uint32_t) freed_waiters; /* about to sleep on "freed" */

  /* Whose turn it is among large reads (turns.h). */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) turn;      /* when it ends, monotonic ns; 0: nobody's */
  _Atomic (uint32_t) turn_ended; /* futex: +1 for each turn that ended */
  _Atomic (uint32_t) turn_waiters; /* about to sleep on it */
};
static_assert (sizeof (struct cbw_doorbell) == 192, "cbw_doorbell");

/* What the clients that had an entry of the client table have read directly,
 * since the segment was made; relaxed.  Behind the doorbell, in its page.
 */
#define CBW_DIRECT_COUNTERS_OFFSET 1024

struct cbw_direct_counters {
  _Atomic (uint64_t) requests;
  _Atomic (uint64_t) read_bytes;
};
static_assert (sizeof (struct cbw_direct_counters) == 16,
               "cbw_direct_counters");

/* Behind them, for each entry of the snapshot table: the id of the snapshot
 * there of whose target a client was told that what was written to it could
 * not be written to disk.  The kernel may not tell the next server.
 */
#define CBW_LOST_TARGETS_OFFSET 2048

static_assert (CBW_DIRECT_COUNTERS_OFFSET + CBW_NR_CLIENTS *
               sizeof (struct cbw_direct_counters) <= CBW_LOST_TARGETS_OFFSET,
               "cbw_direct_counters");
static_assert (CBW_LOST_TARGETS_OFFSET + CBW_NR_SNAPSHOTS *
               sizeof (uint64_t) <= CBW_PAGE, "lost targets");

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
  CBW_REQUEST_DIRECT = 5,       /* struct cbw_direct into it: how to read
                                 * the view without asking */
  CBW_REQUEST_CREATE = 16,      /* take a snapshot; struct cbw_control */
  CBW_REQUEST_DROP = 17,        /* drop one; struct cbw_control */
  CBW_REQUEST_BACKUP = 18,      /* as CREATE, and fill the target */
  CBW_REQUEST_JOB = 19,         /* control a backup; struct cbw_control */
  CBW_REQUEST_CHECKPOINT = 20,  /* a point without data; struct cbw_control */
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
  /* Atomic, as a client's thread may look at them when its slot has been taken
   * back, and another thread of the client has it; then it drops what it saw.
   */
  _Atomic (int32_t) status;     /* 0 or an errno */
  _Atomic (uint32_t) count;     /* of extents */

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

/* A file that the server has open, for a client to open it too.  The client
 * compares device, inode and rdev, so nothing here is believed.
 */
struct cbw_direct_file {
  uint32_t kind;                /* 0: it cannot be opened; 1: a regular file or
                                 * a block device */
  uint32_t fd;                  /* the server's descriptor */
  uint64_t device, inode, rdev; /* as of stat(2) */
  char path[CBW_TARGET_MAX];    /* NUL-terminated; where it may be found */
};
static_assert (sizeof (struct cbw_direct_file) == 1056, "cbw_direct_file");

struct cbw_direct_view {
  uint64_t id, size;            /* of the snapshot, bytes */
  uint32_t index;               /* in the snapshot table */
  uint32_t reserved;
  uint64_t access_offset;       /* of its bitmaps, in the segment's file */
  uint64_t done_offset;
  struct cbw_direct_file target;
};
static_assert (sizeof (struct cbw_direct_view) == 1096, "cbw_direct_view");

/* The reply to DIRECT: the chain as it was in this generation, from the view
 * that is asked about on.  Backups are left out.  All targets have been found
 * as they should be, after the request was made.
 */
struct cbw_direct {
  uint64_t generation;          /* even */
  uint32_t pid;                 /* the server's, in its own pid namespace */
  uint32_t nr_views;            /* 1 to CBW_NR_SNAPSHOTS */
  struct cbw_direct_file source;
  struct cbw_direct_view views[CBW_NR_SNAPSHOTS];
};
static_assert (sizeof (struct cbw_direct) <= CBW_SLOT_BUFFER_SIZE,
               "cbw_direct");

#define CBW_CREATE_FORCE 1u     /* overwrite a target that holds data */
#define CBW_CREATE_OWNED 2u     /* drop it when the creating client dies */
#define CBW_CREATE_SINCE 4u     /* BACKUP: of what has changed since a point,
                                 * into an image that holds the rest */
#define CBW_CREATE_FLAGS \
  (CBW_CREATE_FORCE | CBW_CREATE_OWNED | CBW_CREATE_SINCE)
#define CBW_SINCE_AUTO UINT64_MAX /* the newest point whose image it is, or if
                                   * there is none, all */

#define CBW_DROP_KEEP_POINT 1u  /* a snapshot's point stays, as a checkpoint;
                                 * and that of a backup, if it is complete.
                                 * Without it, a checkpoint is dropped, too */

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

/* What control requests carry in the slot's buffer.  A server
 * that takes over runs them again: the uuid, or the id in the slot, tells
 * it that it was done already.
 */
struct cbw_control {
  char name[CBW_NAME_MAX];      /* CREATE, CHECKPOINT: NUL-terminated */
  char target[CBW_TARGET_MAX];  /* CREATE: absolute path, or NBD server */
  char access[CBW_TARGET_MAX];  /* CREATE: absolute path, or "": all */
  uint8_t uuid[16];             /* CREATE, CHECKPOINT: of what is new,
                                 * random */
  struct cbw_options options;   /* CREATE */
  uint32_t flags;               /* CREATE: CBW_CREATE_*; DROP: CBW_DROP_* */
  uint32_t action;              /* JOB: enum cbw_job_action */
  uint64_t speed;               /* BACKUP, JOB: bytes/s; 0: any */
  uint64_t hold_ns;             /* CREATE, BACKUP, CHECKPOINT, DROP: how long
                                 * guests may be held; 0: CBW_HOLD_DEFAULT */

  uint64_t held_ns;             /* reply: how long guests' writes waited */
  char message[ERROR_MSG_MAX];  /* reply: if it failed, why */

  uint64_t since;               /* BACKUP, with CBW_CREATE_SINCE: id of the
                                 * point, or CBW_SINCE_AUTO */
};
static_assert (sizeof (struct cbw_control) == 3224, "cbw_control");

#endif /* CBW_LAYOUT_REQUEST_H */
