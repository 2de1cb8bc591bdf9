/* SPDX-License-Identifier: BSD-3-Clause */

/* The temperatures of regions.  Guests' threads come here when they change a
 * region that was not changed for a while; the cooler does the rest.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "below/log.h"
#include "points/hot.h"
#include "segment/segment-server.h"
#include "utils/cleanup.h"

void
hot_init (struct hot *h)
{
  *h = (struct hot) { .on = false };
  pthread_mutex_init (&h->lock, NULL);
  pthread_cond_init (&h->written, NULL);
}

void
hot_destroy (struct hot *h)
{
  free (h->temps);
  pthread_cond_destroy (&h->written);
  pthread_mutex_destroy (&h->lock);
}

int
hot_attach (struct hot *h, struct segment *segment, struct points *points,
            bool durable, bool kept, struct error *e)
{
  uint64_t i;

  h->kept = kept;
  if (segment->map.hot == 0 && kept && !durable)
    return 0;
  if (segment_allocate_hot (segment, e) == -1)
    return -1;
  h->segment = segment;
  h->points = points;
  h->durable = durable;
  h->region = layout_hot_region (&segment->map.geometry);
  h->bits = map_hot (&segment->map);
  h->temps = calloc (h->bits.nbits, sizeof h->temps[0]);
  if (h->temps == NULL)
    return error_set_errno (e, ENOMEM, "%s", segment->path);
  for (i = 0; i < h->bits.nbits; ++i)
    if (bitmap_test (&h->bits, i))
      atomic_init (&h->temps[i], HOT_HOT);
  h->on = durable || !kept;
  return 0;
}

/* The bits cannot be written to disk.  Guests do not fail for that, but nothing
 * can be told after the host has gone down.
 */
static void
give_up (struct hot *h, int err, bool again)
{
  errno = err;
  if (!again)
    log_error ("cbw: %s: cannot be written to disk: %m; changes are not known "
               "any more from any point on", h->segment->path);
  points_doubt (h->points, CBW_POINT_SEGMENT);
}

/* Bring all bits that are set by now to stable storage; who asks meanwhile
 * shares the next write.  The lock is held, but not all the time.
 */
static void
write_bits (struct hot *h)
{
  const uint64_t mine = ++h->asked;
  uint64_t covered;
  bool again;
  int r;

  while (h->done < mine) {
    if (h->writing) {
      pthread_cond_wait (&h->written, &h->lock);
      continue;
    }
    h->writing = true;
    covered = h->asked;
    again = h->failed;
    pthread_mutex_unlock (&h->lock);
    r = segment_sync_hot (h->segment);
    if (r != 0)
      give_up (h, r, again);
    pthread_mutex_lock (&h->lock);
    h->writing = false;
    h->failed = r != 0;
    h->done = covered;
    pthread_cond_broadcast (&h->written);
  }
}

void
hot_heat (struct hot *h, uint64_t first, uint64_t last)
{
  const uint64_t end = min_u64 (last + 1, h->bits.nbits);
  bool is_new = false;
  uint64_t i;

  LOCK_FOR_SCOPE (&h->lock);                                        /* T2 */
  for (i = first; i < end; ++i)
    if (atomic_load (&h->temps[i]) == HOT_COLD) {
      bitmap_set (&h->bits, i, i + 1);
      is_new = true;
    }
    else                        /* a round may end while the lock is free */
      atomic_store (&h->temps[i], HOT_TOUCHED);
  if (is_new && h->durable)
    write_bits (h);
  for (i = first; i < end; ++i)
    atomic_store (&h->temps[i], HOT_TOUCHED);
}

uint64_t
hot_begin_round (struct hot *h)
{
  uint64_t i, nr = 0;

  LOCK_FOR_SCOPE (&h->lock);
  for (i = 0; i < h->bits.nbits; ++i)
    switch (atomic_load (&h->temps[i])) {
    case HOT_HOT:
      atomic_store (&h->temps[i], HOT_CANDIDATE);
      nr++;
      break;
    case HOT_CANDIDATE:         /* the last round failed */
      nr++;
      break;
    case HOT_TOUCHED:
      atomic_store (&h->temps[i], HOT_HOT);                         /* T3 */
    }
  return nr;
}

void
hot_end_round (struct hot *h)
{
  uint64_t i;

  LOCK_FOR_SCOPE (&h->lock);
  for (i = 0; i < h->bits.nbits; ++i)
    if (atomic_load (&h->temps[i]) == HOT_CANDIDATE) {
      bitmap_clear (&h->bits, i, i + 1);                            /* T7 */
      atomic_store (&h->temps[i], HOT_COLD);
    }
}

void
hot_set_all (struct hot *h, bool hot)
{
  uint64_t i;

  LOCK_FOR_SCOPE (&h->lock);
  if (h->bits.words == NULL)
    return;
  for (i = 0; i < h->bits.nbits; ++i)
    atomic_store (&h->temps[i], hot ? HOT_HOT : HOT_COLD);
  if (hot)
    bitmap_set (&h->bits, 0, h->bits.nbits);
  else
    bitmap_clear (&h->bits, 0, h->bits.nbits);
}

uint64_t
hot_mark (struct hot *h, struct points *points, uint64_t id)
{
  uint64_t start, end, nr = 0;

  for (start = 0; (start = bitmap_next_set (&h->bits, start, h->bits.nbits)) <
         h->bits.nbits; start = end) {
    end = bitmap_next_clear (&h->bits, start, h->bits.nbits);
    points_mark_from (points, id, start * h->region,                /* T8 */
                      (end - start) * h->region);
    nr += end - start;
  }
  return nr;
}
