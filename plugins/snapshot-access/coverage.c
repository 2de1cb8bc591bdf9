/* SPDX-License-Identifier: BSD-3-Clause */

/* The ranges that a client has read, as disjoint intervals in order, for
 * discard=read (shm-backend.c).  The caller holds the lock.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

void
coverage_init (struct coverage *c, uint64_t size, uint32_t cluster_size)
{
  *c = (struct coverage) { .size = size, .cluster_size = cluster_size };
  pthread_mutex_init (&c->lock, NULL);
}

void
coverage_destroy (struct coverage *c)
{
  pthread_mutex_destroy (&c->lock);
  free (c->intervals);
}

/* Put *x in, merged with those that it touches; *x becomes the result. */
static int
insert_interval (struct coverage *c, struct interval *x)
{
  struct interval *more;
  size_t first = 0, last;

  while (first < c->nr && c->intervals[first].end < x->start)
    first++;
  for (last = first; last < c->nr && c->intervals[last].start <= x->end;
       ++last) {
    x->start = min_u64 (x->start, c->intervals[last].start);
    x->end = max_u64 (x->end, c->intervals[last].end);
  }
  if (first == last) {
    if (c->nr == c->room) {
      more = realloc (c->intervals, (2 * c->room + 64) * sizeof *more);
      if (more == NULL)
        return -1;
      c->intervals = more;
      c->room = 2 * c->room + 64;
    }
    last = first + 1;
    memmove (&c->intervals[last], &c->intervals[first],
             (c->nr++ - first) * sizeof *x);
  }
  else {
    memmove (&c->intervals[first + 1], &c->intervals[last],
             (c->nr - last) * sizeof *x);
    c->nr -= last - first - 1;
  }
  c->intervals[first] = *x;
  return 0;
}

int
coverage_add (struct coverage *c, uint64_t start, uint64_t end,
              uint64_t *from, uint64_t *to)
{
  struct interval x = { .start = start, .end = end };

  LOCK_FOR_SCOPE (&c->lock);
  if (insert_interval (c, &x) == -1)
    return -1;
  /* Of the whole, the clusters that this read touched. */
  *from = max_u64 (round_up (x.start, c->cluster_size),
                   round_down (start, c->cluster_size));
  *to = min_u64 (x.end == c->size ? x.end :
                 round_down (x.end, c->cluster_size),
                 round_up (end, c->cluster_size));
  return 0;
}
