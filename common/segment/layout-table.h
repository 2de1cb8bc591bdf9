/* SPDX-License-Identifier: BSD-3-Clause */

/* The snapshot table: a snapshot's entry, what was asked for when it was
 * made, and the job that it may have.
 */

#ifndef CBW_LAYOUT_TABLE_H
#define CBW_LAYOUT_TABLE_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout-header.h"

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
                                 * see entry_target */
#define CBW_TARGET_UPDATE 8u    /* it held an older image, and is the user's: it
                                 * is never emptied or removed */

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

/* What a snapshot's job does.  A server that takes over a job of a kind that
 * it does not know keeps the snapshot, and leaves the job alone.
 */
enum cbw_job_kind {
  CBW_JOB_NONE = 0,             /* there is none */
  CBW_JOB_BACKUP = 1,           /* fills the target, see cbw_options.backup */
};

/*   NO_JOB     RUNNING <-> PAUSED
 *                 ^ |
 *                 | +--> STOPPED --> (RUNNING)
 *                 | +--> COMPLETE
 *                   `--> FAILED
 *
 * Kept in the segment, so that the next server continues it.
 */
enum cbw_job_state {
  CBW_JOB_NO_JOB = 0,
  CBW_JOB_RUNNING = 1,
  CBW_JOB_PAUSED = 2,           /* by a request */
  CBW_JOB_STOPPED = 3,          /* by an error, until it is resumed */
  CBW_JOB_COMPLETE = 4,         /* of a backup, the image is whole and synced:
                                 * final */
  CBW_JOB_FAILED = 5,           /* it never will be: final */
};

/* What is done with the snapshot, and how that stands; the filter writes
 * it.
 */
struct cbw_job {
  uint32_t kind;                /* enum cbw_job_kind; fixed before LIVE */
  _Atomic (uint32_t) state;     /* enum cbw_job_state */
  _Atomic (uint32_t) errors;    /* so far; the first is kept below */
  uint32_t reserved;
  _Atomic (uint64_t) speed;     /* bytes/s; 0: any */
  _Atomic (uint64_t) bytes;     /* read by the job */
  _Atomic (uint64_t) moved_clusters; /* whole in the target, but not done:
                                      * a newer snapshot had them */
  int32_t error_num;            /* errno; before "errors" is 1 */
  uint32_t error_is_read;       /* 1: reading, 0: writing */
  uint64_t error_offset;        /* bytes */
  uint64_t error_ns;            /* time of day */
  uint64_t end_ns;              /* time of day; before COMPLETE, FAILED */
  uint8_t reserved2[56];
};
static_assert (sizeof (struct cbw_job) == 128, "cbw_job");

#define CBW_INCREMENT_CHOSEN 1u /* the server chose the point */
#define CBW_INCREMENT_COMPARE 2u /* a full one, which writes only what differs
                                  * from what the target holds */

/* Of a backup: the older image that its target held, if it did.  All is fixed
 * before "begun" is 1.
 */
struct cbw_increment {
  uint64_t since;               /* id of the point; 0: it is a full one */
  _Atomic (uint64_t) changed_bytes; /* the size of the delta; before "begun" */
  _Atomic (uint32_t) begun;     /* 1: what had not changed is settled */
  uint32_t flags;               /* CBW_INCREMENT_* */
  uint8_t uuid[16];             /* of the point */
  char name[CBW_NAME_MAX];      /* of the point, NUL-terminated */
  char reason[160];             /* why it is a full one, though the user let the
                                 * server choose; NUL-terminated, or "" */
  uint8_t reserved2[120];
};
static_assert (sizeof (struct cbw_increment) == 384, "cbw_increment");

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

  /* Clusters that are, or may be, done and in the write-back buffer. */
  _Atomic (uint64_t) cells;

  /* Of an NBD server: what was written last, see image_nbd_reopen. */
  _Alignas (CBW_CACHE_LINE)
  _Atomic (uint64_t) target_words[24];

  _Alignas (CBW_CACHE_LINE)
  struct cbw_job job;

  struct cbw_increment increment;
};
static_assert (sizeof (struct cbw_snapshot) == 2048, "cbw_snapshot");
static_assert (offsetof (struct cbw_snapshot, sum) == 1192, "cbw_snapshot");

#endif /* CBW_LAYOUT_TABLE_H */
