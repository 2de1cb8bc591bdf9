/* SPDX-License-Identifier: BSD-3-Clause */

/* A model of a disk and of its points, which keeps for each point what the
 * disk held at that moment, for the crash test.
 *
 * The disk is large, so that it has several regions and several pages of a
 * bitmap, but guests write to a few windows of it only, and the rest is a
 * hole.  "Places" are bytes of the windows, one after the other.
 */

#ifndef CBW_CRASH_MODEL_H
#define CBW_CRASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "crash-state.h"
#include "live-env.h"
#include "request/client.h"
#include "segment/delta.h"

#define CRASH_CLUSTER 4096u
#define CRASH_DISK_SIZE ((UINT64_C (300) << 20) + 5 * CRASH_CLUSTER + 1777)
#define CRASH_WINDOWS 5
#define CRASH_WINDOW (UINT64_C (128) << 10)
#define CRASH_PLACES (CRASH_WINDOWS * CRASH_WINDOW)
#define CRASH_POINTS 48

/* What the disk held at a moment: one or the other of each byte, if some of it
 * is not known.
 */
struct moment {
  unsigned char *data;          /* [CRASH_PLACES] */
  unsigned char *other;         /* [CRASH_PLACES], or NULL: it is the same */
};

enum stand {
  THERE,                        /* the server said so */
  PERHAPS_THERE,                /* the server died while it made it */
  PERHAPS_DROPPED,              /* ... or while it dropped it */
  DROPPED,                      /* the server said so; a crash may undo it */
};

struct crash_point {
  char name[CBW_NAME_MAX];
  enum stand stand;
  bool was_lost;                /* by a crash: it was to become invalid */
  bool snapshot;
  bool live;                    /* its data can be read */
  struct moment was;
};

/* What has become of the points, without cbw-durable. */
enum promise {
  STAYS,                        /* those that were valid are */
  MAY_LOSE,
  LOSES,                        /* all are invalid, or gone */
};

struct crash_model {
  const char *dir;
  char disk_path[256], shm[256];
  struct crash_files files;
  struct server filter;
  struct nbd_handle *guest;
  struct client client;
  bool attached;
  unsigned char *disk, *buf;    /* [CRASH_PLACES] */
  struct crash_point points[CRASH_POINTS];
  unsigned nr_points;
  uint64_t next_name;
  /* Since guests were last served: when the filter was started first (time of
   * day), on which disk, and did the host crash after that?
   */
  uint64_t idle_ns;
  unsigned char *idle_disk;     /* [CRASH_PLACES] */
  bool idle_crash;
  bool trace;
};

extern struct crash_model crash;

/* What the reports say of all that was found. */
struct crash_counts {
  uint64_t compared;            /* deltas, with what they must contain */
  uint64_t changed, in_delta;   /* clusters, of deltas after a crash */
  uint64_t valid, invalid;      /* points, after a crash */
  uint64_t back;                /* points that were dropped, and are there */
};
extern struct crash_counts crash_counts;

/* With "trace=1" among the arguments: what is done, for people. */
#define TRACE(...)                                                      \
  (crash.trace ? (void) fprintf (stderr, __VA_ARGS__) : (void) 0)

/* Where a place is on the disk, and how many places follow there. */
extern uint64_t place_offset (uint64_t place);
extern uint64_t place_run (uint64_t place);

/* Read all places from the disk's file, whoever has written them. */
extern void crash_read_file (unsigned char *to);

/* A point with a new name, with what the disk holds now. */
extern struct crash_point *point_new (bool snapshot);
extern void point_forget (struct crash_point *p);

/* What is not the same in "now" (of the places) may or may not be in it. */
extern void moment_other (struct moment *m, const unsigned char *now);

/* Where the bytes that moment "from" and "to" surely do not share lie must
 * be in the delta.
 */
extern void delta_must_contain (const struct delta *d, const char *what,
                                const struct moment *from,
                                const struct moment *to, bool count);

/* A server is there again: all points that it has are as promised, and the
 * deltas from them contain what has changed.  "crashed": the host went down
 * since the last server was there.  The model then knows which points there
 * are.
 */
extern void points_check (enum promise promise, bool crashed);

/* In between: of every point up to now, and up to each live snapshot. */
extern void points_compare (void);

#endif /* CBW_CRASH_MODEL_H */
