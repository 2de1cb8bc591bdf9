/* SPDX-License-Identifier: BSD-3-Clause */

/* The status of a segment at one moment, as plain values: collected in
 * one file, shown in others.
 */

#ifndef CBW_STATUS_H
#define CBW_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "segment/slots.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "segment/segment.h"
#include "utils/error.h"

#define STATUS_SLOT_STATES (SLOT_DONE + 1)

struct status_snapshot {
  struct snapshot_info info;    /* hidden ones and reservations too */
  bool owned;                   /* by a client: dropped when that ends */
  uint64_t clusters;            /* of its disk */
  uint64_t copied_clusters;
  uint64_t copied_bytes;
  uint64_t held_bytes;          /* what counts for the quota */
  uint64_t error_ns;            /* if something has failed: when */
  struct cbw_options options;
  struct cbw_job job;
  struct cbw_increment increment;
  uint64_t stalled_until_ns;    /* time of day; 0: no guest's write waits */
  char target[ENTRY_TARGET_MAX];
  bool target_is_file;          /* else an NBD server: then nothing of this */
  bool target_found;            /* it is there, and the same file */
  uint64_t target_used;         /* bytes allocated */
  uint64_t target_free;         /* bytes, in its file system */
};

struct status_point {
  struct point point;           /* VALID or INVALID */
  bool has_snapshot;            /* that users can see; else a checkpoint */
  bool is_counted;
  uint64_t changed_bytes;       /* since then, if that was counted */
};

struct status_client {
  unsigned index;
  bool alive;
  uint32_t pid;
  uint64_t start_ns;
  char name[sizeof ((struct cbw_client *) 0)->name + 1];
};

struct status {
  char *path;
  uint64_t now_ns;              /* time of day */
  uint64_t monotonic_ns;
  uint8_t uuid[16];
  struct cbw_geometry geometry;

  bool alive;                   /* its lock says so */
  bool clean;                   /* not alive: it ended in good order */
  uint32_t pid;
  uint64_t start_ns;
  uint64_t generation;

  uint64_t requests, read_bytes, reaped; /* counters; the first two with what
                                          * clients read by themselves */
  uint64_t cells_used;          /* of the write-back buffer, clusters */
  unsigned slots[STATUS_SLOT_STATES]; /* how many are in each state */
  struct status_client clients[CBW_NR_CLIENTS]; /* alive or gone */
  unsigned nr_clients;
  struct status_snapshot snapshots[CBW_NR_SNAPSHOTS]; /* oldest first */
  unsigned nr_snapshots;
  unsigned nr_damaged;          /* entries that cannot be read */

  uint64_t disk_size;           /* the largest that the segment tells of */
  struct status_point points[CBW_NR_POINTS]; /* oldest first */
  unsigned nr_points;
  unsigned nr_damaged_points;
  char not_counted[ERROR_MSG_MAX]; /* why, if changes were not counted */
  uint64_t count_again_ns;      /* monotonic: when they may be */
};

/* Look at the segment; free with status_free.  0, or -1 with the error
 * set.  "last" is NULL, or the look before this one, if there are many: then
 * counting what has changed since each point takes a tenth of the time at
 * most, and what was counted before is shown meanwhile.  last->path is NULL if
 * there was none.
 */
extern int status_collect (const char *path, const struct status *last,
                           struct status *s, struct error *e);
extern void status_free (struct status *s);

/* How many clusters, and bytes, were copied to all the targets. */
extern uint64_t status_copied_clusters (const struct status *s);
extern uint64_t status_copied_bytes (const struct status *s);

/* How many snapshots are to be seen by users. */
extern unsigned status_visible (const struct status *s);

/* How long guests' writes will wait for space in its target; 0: none does. */
extern uint64_t status_stalled_ns (const struct status *s,
                                   const struct status_snapshot *snap);

/* How much more its target may hold, for its file system and quota. */
extern uint64_t status_room (const struct status_snapshot *snap);

/* Its policy, as it is given on the command line. */
extern const char *status_policy_name (const struct status_snapshot *snap);

/* Of a backup: how many clusters are whole in its image; how long it will
 * take if it continues as it did so far, or 0 if that cannot be told.
 */
extern uint64_t status_settled (const struct status_snapshot *snap);
extern uint64_t status_left_ns (const struct status *s,
                                const struct status_snapshot *snap);

/* How the backup stands, in one word. */
extern const char *status_job_name (const struct status_snapshot *snap);

/* The state of a snapshot in one word. */
extern const char *status_state_name (const struct status_snapshot *snap);

/* Collect the points; the snapshots have been collected.  "last" as of
 * status_collect.
 */
extern void status_collect_points (const struct segment *segment,
                                   const struct status *last,
                                   struct status *s);

/* The snapshot with that id, of whatever state, or NULL. */
extern const struct status_snapshot *
status_find_snapshot (const struct status *s, uint64_t id);

/* The point with that id, which is that of its snapshot, or NULL. */
extern const struct status_point *
status_find_point (const struct status *s, uint64_t id);

/* What kind of point it is, in one word: "backup" also when the backup has
 * left.
 */
extern const char *status_kind_name (const struct status_point *p);

/* Why changes cannot be told from it any more, in words; NULL: they can. */
extern const char *status_invalid (const struct status_point *p);

/* Is it known how much has changed since?  Not if it is invalid. */
extern bool status_is_counted (const struct status_point *p);

extern void status_print_text (const struct status *s);

/* As a document, or in one line. */
extern void status_print_json (const struct status *s, bool line);

/* Show it again and again, "count" times (0: for ever), each interval_ns,
 * until ^C or q.
 */
extern int status_watch (const char *path, uint64_t interval_ns,
                         uint64_t count, bool json, struct error *e);

#endif /* CBW_STATUS_H */
