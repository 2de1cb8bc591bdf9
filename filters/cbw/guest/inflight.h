/* SPDX-License-Identifier: BSD-3-Clause */

/* Notes, in the segment, of guests' changes that are under way in the source.
 *
 * The source may be a server of its own, which continues with what it was sent
 * when this process is killed, or its connection lost.  Such a change may
 * land at any later time; a snapshot taken meanwhile must not show that
 * (docs/correctness.md, section 18).  So each change is noted before it
 * goes to the source, and the note taken away when it has surely ended.  A
 * note that stays is a suspect, for as long as the segment lives: nothing
 * that can be asked of an NBD server tells that it is over.
 *
 * This costs a guest's change two uncontended atomic operations.  Where
 * the source is local (plugin.h) a change ends with the process that made
 * it, so that nothing is noted.
 */

#ifndef CBW_INFLIGHT_H
#define CBW_INFLIGHT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment/layout.h"

struct inflight_range {
  uint64_t start, end;          /* bytes */
};

struct inflight {
  struct cbw_inflight *records; /* NULL: nothing is noted */
  bool local;                   /* nor is it by this server */
  _Atomic (unsigned) nr_suspects;

  pthread_mutex_t lock;         /* for the rest, and around merging; a leaf but
                                 * at the cut and at a takeover, which copy
                                 * with it held */
  struct inflight_range ranges[CBW_NR_INFLIGHT];
  size_t nr_ranges;
};

extern void inflight_init (struct inflight *f);
extern void inflight_destroy (struct inflight *f);

/* Use the records of this segment, which is ours, and may be changed.  What
 * an earlier server has left under way becomes suspect, or if the source was
 * local for it, is over.  Before any guest is served.
 */
extern void inflight_attach (struct inflight *f, const struct cbw_map *m,
                             bool was_local, bool local);

/* A change of [offset, offset+count) is about to go to the source; inside the
 * gate.  Returns 0, and *record for inflight_end; or ESHUTDOWN, if while it
 * waited for a free record the server ended, or the guest was gone.
 */
extern int inflight_begin (struct inflight *f, uint64_t offset,
                           uint64_t count, struct cbw_inflight **record);

/* The layer below has answered; still inside the gate.  "err" is 0 or an
 * errno.  Did the change surely end?  If not it is suspect from now on.
 */
extern void inflight_end (struct inflight *f, struct cbw_inflight *record,
                          int err);

/* Put the suspects into f->ranges, in order, none touching another.  The
 * caller holds f->lock as long as it looks at them.
 */
extern void inflight_collect (struct inflight *f);

#endif /* CBW_INFLIGHT_H */
