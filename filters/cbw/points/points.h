/* SPDX-License-Identifier: BSD-3-Clause */

/* The points of the disk's history (segment/layout-points.h), as the server
 * knows them: its own record, which it acts on, and the bitmap in which
 * guests' changes are marked.
 *
 *   FREE --> MAKING --> USED --> MERGING --> FREE
 *              `--> FREE
 *
 * docs/correctness.md, section 26, has the argument.  A point that is being
 * made is a draft until points_commit.
 *
 * The lock is a leaf.  points_mark takes none: it is called inside the gate,
 * and "newest" changes only while the gate is closed.
 */

#ifndef CBW_POINTS_H
#define CBW_POINTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "segment/point.h"
#include "segment/segment.h"
#include "snapshot/generation.h"
#include "utils/bitmap.h"
#include "utils/error.h"
#include "utils/rounding.h"

enum points_use { POINTS_FREE, POINTS_MAKING, POINTS_USED, POINTS_MERGING };

struct points_entry {
  enum points_use use;
  bool valid;                   /* deltas may begin there */
  uint64_t id;                  /* 0 while it is being made */
  uint64_t size;                /* of the disk at that moment, bytes */
  uint32_t flags;               /* CBW_POINT_* */
  uint8_t uuid[16];
  char name[CBW_NAME_MAX];
};

struct points {
  struct segment *segment;      /* NULL: there are no points */
  bool track;                   /* guests' changes are marked */
  bool durable;                 /* points are kept on stable storage */
  struct generation *generation;
  uint32_t cluster_size;
  struct bitmap newest;         /* of the newest point; no words: there is
                                 * none */
  pthread_mutex_t lock;         /* for the rest */
  struct points_entry entries[CBW_NR_POINTS];
};

/* A point to be made: its place in the table. */
struct points_draft {
  bool wanted;                  /* false: changes are not tracked */
  unsigned index;
};

extern void points_init (struct points *p);
extern void points_destroy (struct points *p);

/* Keep the points of this segment, before anything else is called.
 * "generation" is raised before a bitmap is used anew.  Without "track" no
 * changes are marked: then there are only those points of an earlier server,
 * of which none is valid any more.
 */
extern void points_attach (struct points *p, struct segment *segment,
                           struct generation *generation, bool track,
                           bool durable);

/* M1: a guest is about to change [offset, offset+count).  Inside the gate. */
static inline void
points_mark (const struct points *p, uint64_t offset, uint64_t count)
{
  uint64_t start, end;

  if (p->newest.words == NULL)
    return;
  start = offset / p->cluster_size;
  /* What is behind the disk of that moment counts as changed in any case. */
  end = min_u64 ((offset + count + p->cluster_size - 1) / p->cluster_size,
                 p->newest.nbits);
  if (start < end)
    bitmap_set (&p->newest, start, end);                            /* M1 */
}

/* Take a place for a new point, with an empty bitmap.  0, or -1 with the error
 * set: EEXIST if a point has the name, and its name is not to be used again
 * (CBW_POINT_BACKUP); ENOSPC if there is no place, or no room for the bitmap.
 */
extern int points_reserve (struct points *p, const char *name,
                           const uint8_t uuid[16], uint32_t flags,
                           struct points_draft *draft, struct error *e);

/* It is not made after all. */
extern void points_undo (struct points *p, const struct points_draft *draft);

/* The moment has come: the gate is closed.  Guests' changes are marked in it
 * from now on.
 */
extern void points_commit (struct points *p, const struct points_draft *draft,
                           uint64_t id, uint64_t size, uint64_t created_ns);

/* Is there a point "id"?  Or one with the uuid?  The second returns its id,
 * or 0.
 */
extern bool points_has (struct points *p, uint64_t id);
extern uint64_t points_find_uuid (struct points *p, const uint8_t uuid[16]);

/* Copy what is known of point "id", or of the one with the uuid; of the newest
 * valid one that is older than "id".  False if there is none.
 */
extern bool points_find (struct points *p, uint64_t id,
                         struct points_entry *copy);
extern bool points_find_image (struct points *p, const uint8_t uuid[16],
                               struct points_entry *copy);
extern bool points_find_older (struct points *p, uint64_t id,
                               struct points_entry *copy);

/* Set the bits of what has changed from point "from" on, up to "to" (not
 * included): those of the disk when it had "size" bytes.  "bits" is cleared
 * memory of the caller's.  The caller holds engine->control, so that points
 * stay.  ENOENT if there is no point "from".
 */
extern int points_changes (struct points *p, uint64_t from, uint64_t to,
                           uint64_t size, const struct bitmap *bits);

/* Has a cluster changed since point "from", for all that is known?  Yes if there
 * is no such point.  It is marked before the change.
 */
extern bool points_has_changed (struct points *p, uint64_t from,
                                uint64_t cluster);

/* Is it the newest?  Then points_leave needs the gate closed. */
extern bool points_is_newest (struct points *p, uint64_t id);

/* The oldest point that may go to make room: of a backup, but not the newest;
 * "busy" says of an id that it is still wanted.  Returns its id; 0 if there is
 * none, or if there is room.
 */
extern uint64_t points_to_make_room (struct points *p,
                                     bool (*busy) (void *opaque, uint64_t id),
                                     void *opaque);

/* A point of a backup that has the name of the newer point "id", or 0. */
extern uint64_t points_replaced (struct points *p, uint64_t id);

/* J1, J2: no delta begins at point "id" any more.  The caller holds
 * engine->control, and the gate is closed if it is the newest.  Nothing happens
 * if there is no such point.
 */
extern void points_leave (struct points *p, uint64_t id);

/* J3, J4: add its bitmap to that of the point before it, and free its place.
 * It may take long for a large disk, so the gate should not be closed.  The
 * caller holds engine->control.
 */
extern void points_merge (struct points *p, uint64_t id);

/* Mark a range in the point that was the newest when "id" was, and in all newer
 * ones.  The caller holds engine->control.
 */
extern void points_mark_from (struct points *p, uint64_t id, uint64_t offset,
                              uint64_t count);

/* The id of the newest point, or 0. */
extern uint64_t points_newest (struct points *p);

/* No point can be believed any more, for that reason (enum cbw_point_reason). */
extern void points_doubt (struct points *p, uint32_t reason);

/* If durable, bring points and bitmaps to stable storage.  If that fails no
 * point can be believed any more.  Returns whether it is there.
 */
extern bool points_persist (struct points *p);

/* ---- At a takeover, when there are no guests ---- */

/* What an earlier server has left, each point read but once. */
struct points_found {
  struct point list[CBW_NR_POINTS]; /* the oldest first */
  size_t nr;
};

/* Read and check the table; nothing is changed.  Of a host that went down
 * uncleanly ("torn") a damaged entry is left out: it was being made.  0, or -1
 * with the error EBADMSG.
 */
extern int points_look (const struct segment *segment, bool torn,
                        struct points_found *found, struct error *e);

/* Take them up, and finish what an earlier server has begun to merge.  "doubt"
 * is the reason (enum cbw_point_reason) why none can be believed any more, or
 * 0.  Returns the largest id, or 0.
 */
extern uint64_t points_inherit (struct points *p,
                                const struct points_found *found,
                                uint32_t doubt);

#endif /* CBW_POINTS_H */
