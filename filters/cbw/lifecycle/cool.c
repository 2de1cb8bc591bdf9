/* SPDX-License-Identifier: BSD-3-Clause */

/* The cooler: see cool.h.  The temperatures are in points/hot.c. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "lifecycle/cool.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

/* How long a round waits for changes that are under way. */
#define QUIESCE NS_PER_SEC

static struct cbw_header *
header (const struct engine *e)
{
  return map_header (&e->points.segment->map);
}

static void
raise (_Atomic (uint64_t) *to, uint64_t id)
{
  uint64_t old = atomic_load (to);

  while (old < id && !atomic_compare_exchange_weak (to, &old, id))
    ;
}

/* What is hot may be lost.  In the log once, not at each try. */
static void
mark_hot (struct engine *e, const char *why)
{
  uint64_t nr;

  LOCK_FOR_SCOPE (&e->control);
  nr = hot_mark (&e->hot, &e->points,
                 atomic_load (&header (e)->flushed_point));
  points_persist (&e->points);
  if (nr > 0 && atomic_exchange (&e->hot.said, nr) != nr)
    log_error ("cbw: %s: %" PRIu64 " regions of %" PRIu64 " KiB count as "
               "changed (if the disk cannot be flushed start the server "
               "anew)", why, nr,
               e->hot.region >> 10);
}

/* T5, and T8 if it fails.  Returns whether it has succeeded. */
static bool
flush_source (struct engine *e)
{
  const uint64_t newest = points_newest (&e->points);
  void *through, *before;
  struct error error;

  if (source_flush (&e->source, &through, &error) == -1) {          /* T5 */
    if (error.num != EOPNOTSUPP)
      mark_hot (e, error.msg);
    return false;
  }
  /* Another connection may be to a server that was started since. */
  before = atomic_exchange (&e->hot.through, through);
  if (before && before != through && !e->hot.kept) {
    mark_hot (e, "the disk is reached over a new connection");
    return false;
  }
  atomic_store (&e->hot.said, 0);
  raise (&header (e)->flushed_point, newest);
  return true;
}

/* The regions, at the start. */
static void
start_regions (struct engine *e, bool lost)
{
  if (lost)
    mark_hot (e, "an earlier server has not ended in order");
  if (!e->hot.on)
    return;                     /* cool_begin */
  if (!flush_source (e))
    hot_set_all (&e->hot, true);
  else if (points_persist (&e->points))                             /* T6 */
    hot_set_all (&e->hot, false);                                   /* T7 */
}

void
cool_start (struct engine *e, bool lost)
{
  if (e->hot.bits.words)
    start_regions (e, lost);
  points_persist (&e->points);
  raise (&header (e)->confirmed_id, e->table.next_id - 1);
}

void
cool_begin (struct engine *e)
{
  if (!e->hot.on)
    hot_set_all (&e->hot, false); /* the kernel has it all */
}

void
cool_round (struct engine *e)
{
  if (!e->hot.on || hot_begin_round (&e->hot) == 0 ||
      !gate_quiesce (&e->gate, QUIESCE) || !flush_source (e) ||
      !points_persist (&e->points))                                 /* T6 */
    return;
  hot_end_round (&e->hot);
}

void
cool_confirm (struct engine *e, uint64_t id)
{
  if (e->points.segment == NULL)
    return;
  if (e->hot.on && !e->hot.kept)
    flush_source (e);
  points_persist (&e->points);
  raise (&header (e)->confirmed_id, id);
}

void
cool_stop (struct engine *e)
{
  if (e->hot.bits.words == NULL || !source_may_flush (&e->source) ||
      !points_persist (&e->points))                                 /* T6 */
    return;
  raise (&header (e)->flushed_point, points_newest (&e->points));
  hot_set_all (&e->hot, false);                                     /* T7 */
}
