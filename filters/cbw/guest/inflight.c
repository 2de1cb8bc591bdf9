/* SPDX-License-Identifier: BSD-3-Clause */

/* Which changes are under way in the source: see inflight.h.
 *
 * A record is written by one thread: that which has claimed it, by a
 * compare-and-swap from FREE; or if it is suspect, that which holds the lock.
 * A process that is killed leaves each record as it is after some store of
 * the thread that wrote it.  So offset and count are stored before UNDER_WAY
 * or SUSPECT (release), and what several suspects cover is noted once more
 * before they are freed.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "below/patience.h"
#include "guest/inflight.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* Suspects are merged, with what lies between them if need be, when they are
 * more than this many: the others are for changes under way.
 */
#define SUSPECTS_KEPT (CBW_NR_INFLIGHT / 2)

/* How often a change that found no free record looks for one. */
#define INFLIGHT_INTERVAL NS_PER_MS

/* Where a thread looks first, so that threads do not share cache lines. */
static _Atomic (unsigned) next_hint;
static _Thread_local unsigned my_hint
  __attribute__ ((tls_model ("initial-exec"))); /* 1 + index, 0: none yet */

void
inflight_init (struct inflight *f)
{
  f->records = NULL;
  f->local = false;
  atomic_init (&f->nr_suspects, 0);
  pthread_mutex_init (&f->lock, NULL);
  f->nr_ranges = 0;
}

void
inflight_destroy (struct inflight *f)
{
  pthread_mutex_destroy (&f->lock);
}

static enum cbw_inflight_state
state_of (struct cbw_inflight *record)
{
  return atomic_load_explicit (&record->state, memory_order_acquire);
}

static void
set_state (struct cbw_inflight *record, enum cbw_inflight_state state)
{
  atomic_store_explicit (&record->state, state, memory_order_release);
}

/* Claim a free record; NULL if there is none. */
static struct cbw_inflight *
claim_record (struct inflight *f)
{
  struct cbw_inflight *record;
  uint32_t expected;
  unsigned i, index;

  if (my_hint == 0)
    my_hint = 1 + atomic_fetch_add_explicit (&next_hint, 1,
                                             memory_order_relaxed) *
      (CBW_CACHE_LINE / sizeof *record) % CBW_NR_INFLIGHT;
  for (i = 0; i < CBW_NR_INFLIGHT; ++i) {
    index = (my_hint - 1 + i) % CBW_NR_INFLIGHT;
    record = &f->records[index];
    expected = CBW_INFLIGHT_FREE;
    if (atomic_load_explicit (&record->state, memory_order_relaxed) ==
        CBW_INFLIGHT_FREE &&
        atomic_compare_exchange_strong_explicit (&record->state, &expected,
                                                 CBW_INFLIGHT_CLAIMED,
                                                 memory_order_acquire,
                                                 memory_order_relaxed)) {
      my_hint = 1 + index;
      return record;
    }
  }
  return NULL;
}

static void
write_record (struct cbw_inflight *record, uint64_t offset, uint64_t count,
              enum cbw_inflight_state state)
{
  record->offset = offset;                                          /* I2 */
  record->count = count;
  set_state (record, state);                                        /* I3 */
}

static int
by_start (const void *a, const void *b)
{
  const struct inflight_range *x = a, *y = b;

  return x->start < y->start ? -1 : x->start > y->start;
}

/* Join ranges, which are in order, that are no farther apart than "gap". */
static void
join_ranges (struct inflight *f, uint64_t gap)
{
  struct inflight_range *r = f->ranges;
  size_t i, nr = 0;

  for (i = 0; i < f->nr_ranges; ++i) {
    if (nr > 0 && (r[i].start <= r[nr - 1].end ||
                   r[i].start - r[nr - 1].end <= gap))
      r[nr - 1].end = max_u64 (r[nr - 1].end, r[i].end);
    else
      r[nr++] = r[i];
  }
  f->nr_ranges = nr;
}

static struct inflight_range
range_of (const struct cbw_inflight *record)
{
  const uint64_t start = record->offset, count = record->count;

  return (struct inflight_range) {
    .start = start, .end = start + min_u64 (count, UINT64_MAX - start)
  };
}

void
inflight_collect (struct inflight *f)
{
  unsigned i;

  f->nr_ranges = 0;
  for (i = 0; f->records && i < CBW_NR_INFLIGHT; ++i)
    if (state_of (&f->records[i]) == CBW_INFLIGHT_SUSPECT)
      f->ranges[f->nr_ranges++] = range_of (&f->records[i]);
  qsort (f->ranges, f->nr_ranges, sizeof f->ranges[0], by_start);
  join_ranges (f, 0);
}

/* One record for all suspects within the range: first the new one. */
static void
merge_suspects (struct inflight *f, const struct inflight_range *all)
{
  struct cbw_inflight *record, *merged;
  struct inflight_range r;
  unsigned i, freed = 0;

  merged = claim_record (f);
  if (merged == NULL)
    return;
  write_record (merged, all->start, all->end - all->start,
                CBW_INFLIGHT_SUSPECT);
  for (i = 0; i < CBW_NR_INFLIGHT; ++i) {
    record = &f->records[i];
    if (record == merged || state_of (record) != CBW_INFLIGHT_SUSPECT)
      continue;
    r = range_of (record);
    if (all->start <= r.start && r.end <= all->end) {
      set_state (record, CBW_INFLIGHT_FREE);
      freed++;
    }
  }
  atomic_fetch_add (&f->nr_suspects, 1);
  atomic_fetch_sub (&f->nr_suspects, freed);
}

/* See to it that suspects leave room for changes under way. */
static void
tidy_records (struct inflight *f)
{
  uint64_t gap;
  size_t i;

  LOCK_FOR_SCOPE (&f->lock);
  if (atomic_load (&f->nr_suspects) <= SUSPECTS_KEPT)
    return;
  inflight_collect (f);
  /* To half of it, so that it is not done again soon. */
  for (gap = CBW_PAGE; f->nr_ranges > SUSPECTS_KEPT / 2; gap *= 2)
    join_ranges (f, gap);
  for (i = 0; i < f->nr_ranges; ++i)
    merge_suspects (f, &f->ranges[i]);
}

void
inflight_attach (struct inflight *f, const struct cbw_map *m, bool was_local,
                 bool local)
{
  struct cbw_inflight *record;
  unsigned i, suspects = 0;

  f->records = map_inflight (m);
  f->local = local;
  for (i = 0; i < CBW_NR_INFLIGHT; ++i) {
    record = &f->records[i];
    switch (state_of (record)) {
    case CBW_INFLIGHT_UNDER_WAY:
      if (was_local) {
        set_state (record, CBW_INFLIGHT_FREE);
        break;
      }
      set_state (record, CBW_INFLIGHT_SUSPECT);
      suspects++;
      break;
    case CBW_INFLIGHT_SUSPECT:
      suspects++;
      break;
    default:
      set_state (record, CBW_INFLIGHT_FREE);
    }
  }
  atomic_store (&f->nr_suspects, suspects);
  tidy_records (f);
}

int
inflight_begin (struct inflight *f, uint64_t offset, uint64_t count,
                struct cbw_inflight **record)
{
  *record = NULL;
  if (f->records == NULL || f->local)
    return 0;
  while ((*record = claim_record (f)) == NULL)                      /* I1 */
    if (!patience_sleep (INFLIGHT_INTERVAL))
      return ESHUTDOWN;
  write_record (*record, offset, count, CBW_INFLIGHT_UNDER_WAY);
  return 0;
}

/* A server that gives such an error has refused the change, or ended it.  A
 * connection that was lost gives another error.
 */
static bool
is_over (int err)
{
  switch (err) {
  case 0: case ENOSPC: case EDQUOT: case EFBIG: case EPERM: case EROFS:
  case EINVAL: case EOPNOTSUPP:
#if ENOTSUP != EOPNOTSUPP
  case ENOTSUP:
#endif
    return true;
  default:
    return false;
  }
}

void
inflight_end (struct inflight *f, struct cbw_inflight *record, int err)
{
  unsigned suspects;

  if (record == NULL)
    return;
  if (is_over (err)) {
    set_state (record, CBW_INFLIGHT_FREE);                          /* I4 */
    return;
  }
  /* Counted first: whoever merges it takes it off the number. */
  suspects = atomic_fetch_add (&f->nr_suspects, 1);
  set_state (record, CBW_INFLIGHT_SUSPECT);                         /* I4 */
  if (suspects >= SUSPECTS_KEPT)
    tidy_records (f);
}
