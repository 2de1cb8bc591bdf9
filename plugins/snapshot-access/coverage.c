/* SPDX-License-Identifier: BSD-3-Clause */

/* The ranges that a client has read, for discard=read (shm-backend.c). */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* So many pieces that are to be discarded may be kept. */
#define DUE_MAX 64

void
coverage_init (struct coverage *c, uint64_t size, uint32_t cluster_size,
               uint64_t batch)
{
  *c = (struct coverage) {
    .size = size, .cluster_size = cluster_size, .batch = batch
  };
  pthread_mutex_init (&c->lock, NULL);
}

void
coverage_destroy (struct coverage *c)
{
  pthread_mutex_destroy (&c->lock);
  free (c->read.intervals);
  free (c->due.intervals);
}

/* Make room for one more at "i". */
static int
open_gap (struct interval_set *set, size_t i)
{
  struct interval *more;

  if (set->nr == set->room) {
    more = realloc (set->intervals, (2 * set->room + 64) * sizeof *more);
    if (more == NULL)
      return -1;
    set->intervals = more;
    set->room = 2 * set->room + 64;
  }
  memmove (&set->intervals[i + 1], &set->intervals[i],
           (set->nr++ - i) * sizeof *set->intervals);
  return 0;
}

static void
remove_intervals (struct interval_set *set, size_t first, size_t end)
{
  memmove (&set->intervals[first], &set->intervals[end],
           (set->nr - end) * sizeof *set->intervals);
  set->nr -= end - first;
}

/* Put *x in, merged with those that it touches; *x becomes the result, and
 * *at its index.
 */
static int
insert_interval (struct interval_set *set, struct interval *x, size_t *at)
{
  size_t first = 0, last;

  while (first < set->nr && set->intervals[first].end < x->start)
    first++;
  for (last = first; last < set->nr && set->intervals[last].start <= x->end;
       ++last) {
    x->start = min_u64 (x->start, set->intervals[last].start);
    x->end = max_u64 (x->end, set->intervals[last].end);
  }
  if (first < last)
    remove_intervals (set, first + 1, last);
  else if (open_gap (set, first) == -1)
    return -1;
  set->intervals[first] = *x;
  *at = first;
  return 0;
}

/* The clusters *x are due: *x becomes what is to be discarded now, perhaps
 * nothing.
 */
static void
add_due (struct coverage *c, struct interval *x)
{
  size_t at;

  if (insert_interval (&c->due, x, &at) == -1)
    return;                     /* then now */
  if (x->end - x->start >= c->batch || c->due.nr > DUE_MAX)
    remove_intervals (&c->due, at, at + 1);
  else
    x->end = x->start;
}

int
coverage_add (struct coverage *c, uint64_t start, uint64_t end,
              uint64_t *from, uint64_t *to)
{
  struct interval x = { .start = start, .end = end };
  size_t at;

  LOCK_FOR_SCOPE (&c->lock);
  if (insert_interval (&c->read, &x, &at) == -1)
    return -1;
  /* Of the whole, the clusters that this read touched. */
  x = (struct interval) {
    .start = max_u64 (round_up (x.start, c->cluster_size),
                      round_down (start, c->cluster_size)),
    .end = min_u64 (x.end == c->size ? x.end :
                    round_down (x.end, c->cluster_size),
                    round_up (end, c->cluster_size)),
  };
  if (x.start < x.end)
    add_due (c, &x);
  *from = x.start;
  *to = x.end;
  return 0;
}

bool
coverage_rest (struct coverage *c, uint64_t *from, uint64_t *to)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (c->due.nr == 0)
    return false;
  *from = c->due.intervals[0].start;
  *to = c->due.intervals[0].end;
  remove_intervals (&c->due, 0, 1);
  return true;
}
