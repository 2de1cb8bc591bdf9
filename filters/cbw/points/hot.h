/* SPDX-License-Identifier: BSD-3-Clause */

/* Which regions of the disk are hot: they may hold guests' changes that are not
 * on stable storage.  docs/correctness.md, section 27, has the argument, and
 * the steps T1 to T8.
 *
 *   COLD --> TOUCHED --> HOT --> CANDIDATE --> COLD
 *               ^_________|__________|
 *
 * A region that is not COLD has its bit set in the segment.  A guest's change
 * makes it TOUCHED.  Each round of the cooler (lifecycle/cool.h) takes TOUCHED
 * for HOT and HOT for CANDIDATE, and those that are CANDIDATE at its end get
 * cold.
 *
 * hot_touch takes no lock where a region is TOUCHED already.  The lock is a
 * leaf; it is not held while the segment is written to disk.
 */

#ifndef CBW_HOT_H
#define CBW_HOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "points/points.h"
#include "segment/segment.h"
#include "utils/bitmap.h"
#include "utils/error.h"

enum temperature { HOT_COLD, HOT_HOT, HOT_CANDIDATE, HOT_TOUCHED };

struct hot {
  bool on;                      /* false: nothing is kept hot */
  bool durable;                 /* the bits are brought to stable storage */
  bool kept;                    /* the source has all when this process ends */
  struct segment *segment;
  struct points *points;        /* which become invalid if that fails */
  uint64_t region;              /* bytes */
  struct bitmap bits;           /* in the segment */
  _Atomic (uint8_t) *temps;     /* enum temperature, of each region */
  _Atomic (void *) through;     /* the context of the last flush */
  _Atomic (uint64_t) said;      /* how many regions count as changed, in the
                                 * log; 0 after a flush */

  pthread_mutex_t lock;         /* for changes of temps and bits, and the rest */
  pthread_cond_t written;
  uint64_t asked, done;         /* writes of the bits to disk */
  bool writing;
  bool failed;                  /* the last one has */
};

extern void hot_init (struct hot *h);
extern void hot_destroy (struct hot *h);

/* Use the hot bitmap of this segment, where what an earlier server has left hot
 * stays so; with "durable", on stable storage.  If the source keeps all and that
 * is not wanted, nothing is kept hot from now on.  0, or -1 with the error set.
 */
extern int hot_attach (struct hot *h, struct segment *segment,
                       struct points *points, bool durable, bool kept,
                       struct error *e);

/* T1, T2: a guest is about to change [offset, offset+count).  Inside the gate,
 * after points_mark.  If durable it may wait for the segment's disk.
 */
extern void hot_heat (struct hot *h, uint64_t first, uint64_t last);

static inline void
hot_touch (struct hot *h, uint64_t offset, uint64_t count)
{
  uint64_t first, last, i;

  if (!h->on || count == 0)
    return;
  first = offset / h->region;
  last = (offset + count - 1) / h->region;
  for (i = first; i <= last && i < h->bits.nbits; ++i)
    if (atomic_load (&h->temps[i]) != HOT_TOUCHED) {                /* T1 */
      hot_heat (h, first, last);
      return;
    }
}

/* T3: begin a round.  Returns how many candidates there are. */
extern uint64_t hot_begin_round (struct hot *h);

/* T7: the round has succeeded. */
extern void hot_end_round (struct hot *h);

/* All of the disk is cold, or all of it hot; there are no guests. */
extern void hot_set_all (struct hot *h, bool hot);

/* T8: mark all clusters of hot regions in the points from "id" on.  The caller
 * holds engine->control.  Returns how many regions there are.
 */
extern uint64_t hot_mark (struct hot *h, struct points *points, uint64_t id);

#endif /* CBW_HOT_H */
