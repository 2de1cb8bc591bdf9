/* SPDX-License-Identifier: BSD-3-Clause */

/* A snapshot as the filter's threads see it: its entry and bitmaps in the
 * segment, its target, and the store that stands for that.
 *
 * What the server acts on is its own: the name, the target, the options, the
 * state.  The entry in the segment says the same to others, and to the next
 * server, but anybody who can write to the segment can change it there, so
 * it is never read again.  (Counters and bitmaps are: the worst that a
 * forged one does is to spoil this snapshot.)
 */

#ifndef CBW_SNAPSHOT_H
#define CBW_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "segment/layout.h"
#include "utils/bitmap.h"
#include "utils/crew.h"
#include "utils/rounding.h"
#include "view/view.h"

struct snapshot {
  struct crew_task task;        /* first; the closer's */
  _Atomic (unsigned) refs;
  struct cbw_snapshot *entry;   /* in the segment */
  struct cbw_snapshot fixed;    /* our own copy; what may change of an entry
                                 * is not used in it */
  _Atomic (uint32_t) state;     /* enum cbw_snapshot_state */
  _Atomic (bool) complete;      /* a backup whose image is whole */
  struct view view;             /* as it is read; its store: what guests'
                                 * copies are written to and read from, the
                                 * target or an image before it, which is
                                 * owned (writeback.h) */
  struct bitmap settled;        /* in the segment; and of a backup, moved */
  struct bitmap moved;
  struct image *target;         /* owned; if it could not be opened again, one
                                 * that is missing (image.h) */

  /* Copies that were given up, and may yet be written to the target. */
  _Atomic (unsigned) late;

  /* Dropped for good: when the last reference goes, the target is given up
   * and the entry is free for another.  Until then nobody reuses its bitmaps
   * under a reader, and nobody trims what is still written to.
   */
  _Atomic (bool) retired;

  /* The chain's, once it has been in the chain; NULL before. */
  struct generation *generation;

  /* Who ends it when the last reference has gone (closer.h); NULL: the
   * thread that gives that back.
   */
  struct closer *closer;
  enum {
    SNAPSHOT_TIDY_NONE,
    SNAPSHOT_TIDY_QUEUED,
    SNAPSHOT_TIDY_RUNNING,
    SNAPSHOT_TIDY_AGAIN,
  } tidy;                       /* the closer's, under its lock */
};

/* The in-process side of table entry i, of which "fixed" is a checked copy,
 * without target, with one reference.  NULL (errno ENOMEM) on error.
 */
extern struct snapshot *snapshot_new (const struct cbw_map *m, unsigned i,
                                      const struct cbw_snapshot *fixed);

extern void snapshot_ref (struct snapshot *snap);

/* The last one ends the snapshot: that closes its target, which may take
 * long, so it is done in a thread of the closer's.
 */
extern void snapshot_unref (struct snapshot *snap);

/* Nobody has a reference any more: give up the target if it is retired,
 * close it, free the snapshot.  For the closer.
 */
extern void snapshot_end (struct snapshot *snap);

/* Write the fixed part to the entry in the segment, with its checksum. */
extern void snapshot_write_fixed (struct snapshot *snap);

static inline enum cbw_snapshot_state
snapshot_state (const struct snapshot *snap)
{
  return atomic_load_explicit (&snap->state, memory_order_acquire);
}

/* Sequentially consistent, in the segment and here.  The segment comes first:
 * another thread which finds the new state here may let a guest's write pass
 * that preserves nothing, and a client that reads what was written looks for
 * the state in the segment.
 */
static inline void
snapshot_set_state (struct snapshot *snap, enum cbw_snapshot_state state)
{
  atomic_store (&snap->entry->state, state);
  atomic_store (&snap->state, state);
}

/* Is the target to be an image of the whole disk?  No other snapshot looks
 * through that, since it is to leave when it is whole.
 */
static inline bool
snapshot_is_backup (const struct snapshot *snap)
{
  return snap->view.backup;
}

static inline uint64_t
snapshot_clusters (const struct snapshot *snap)
{
  return view_clusters (&snap->view);
}

/* How many bytes clusters [start, end) are: the last may be a part of one. */
static inline uint64_t
snapshot_bytes (const struct snapshot *snap, uint64_t start, uint64_t end)
{
  return view_bytes (&snap->view, start, end);
}

/* Is it a backup whose target is a whole image?  Then that is the user's,
 * and is neither changed nor removed any more.
 */
static inline bool
snapshot_is_complete (const struct snapshot *snap)
{
  return atomic_load (&snap->complete);
}

/* Where, from cluster c on and before "end", is a cluster of a backup not
 * settled, or settled?  The image has those that were copied to it, which are
 * done, and those that were taken from a newer snapshot, which are moved.
 * Bits are only ever set, so a cluster found to be there stays there.
 */
extern uint64_t snapshot_next_unsettled (const struct snapshot *snap,
                                         uint64_t c, uint64_t end);
extern uint64_t snapshot_next_settled (const struct snapshot *snap,
                                       uint64_t c, uint64_t end);

/* The backup's target is whole and synced.  False if the snapshot is not
 * live any more: then the target may not be what it was thought to be.
 * Where it was live after that, and the image was given its name
 * ("published"), a drop comes too late to take that back.
 */
extern bool snapshot_complete (struct snapshot *snap, bool published);

/* The snapshot is lost, for the reason given: say so in the segment and
 * the log.  Nothing happens unless it is live: the first error is the one
 * kept, and a dropped snapshot stays dropped.  When it returns, every
 * reader that looks at the state later sees it.
 */
extern void snapshot_break (struct snapshot *snap,
                            enum cbw_broken_reason reason, int num,
                            uint64_t offset, const char *msg);

/* A copy that the snapshot needed failed, and does not break it: record that,
 * if it is the first error.
 */
enum snapshot_failure {
  SNAPSHOT_NEEDS_NOTHING,       /* not live any more: nothing has failed */
  SNAPSHOT_FAILED_FIRST,
  SNAPSHOT_FAILED_AGAIN,
};
extern enum snapshot_failure snapshot_record_failure (struct snapshot *snap,
                                                      int num,
                                                      uint64_t offset);

/* Give the space of clusters [start, end) in the target back. */
extern void snapshot_punch (struct snapshot *snap, uint64_t start,
                            uint64_t end);

/* Hide the snapshot from users, live or broken. */
extern void snapshot_hide (struct snapshot *snap);

#endif /* CBW_SNAPSHOT_H */
