/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "rounding.h"
#include "view.h"

/* A range of a snapshot, in bytes, and a walk over the parts of it that
 * one holder holds.
 */
struct walk {
  const struct chain *chain;
  size_t k;                     /* index of the snapshot */
  uint64_t end;                 /* of the range */

  uint64_t from, to;            /* this part */
  bool accessible;              /* or it has no holder */
  size_t holder;                /* chain->len: the source */
};

static void
walk_start (struct walk *w, const struct chain *chain, size_t k,
            uint64_t offset, uint64_t end)
{
  *w = (struct walk) {
    .chain = chain, .k = k, .end = end, .from = offset, .to = offset
  };
}

/* Go to the next part; false at the end. */
static bool
walk_next (struct walk *w)
{
  const struct snapshot *snap = w->chain->snaps[w->k];
  const uint64_t cs = snap->cluster_size;
  const uint64_t c = w->to / cs, end = (w->end + cs - 1) / cs;
  uint64_t run, stop;

  w->from = w->to;
  if (w->from == w->end)
    return false;
  /* One look at the bit: see chain.h. */
  stop = bitmap_next_clear (&snap->access, c, end);
  w->accessible = stop > c;
  if (w->accessible)
    w->holder = chain_holder (w->chain, w->k, c, stop, &run);
  else
    run = bitmap_next_set (&snap->access, c, end);
  w->to = min_u64 (run * cs, w->end);
  return true;
}

static bool
walk_in_source (const struct walk *w)
{
  return w->accessible && w->holder == w->chain->len;
}

static struct image *
walk_target (const struct walk *w)
{
  return w->chain->snaps[w->holder]->target;
}

static int
check_state (const struct snapshot *snap)
{
  switch (snapshot_state (snap)) {
  case CBW_SNAPSHOT_LIVE: return 0;
  case CBW_SNAPSHOT_BROKEN: return EIO;
  default: return ESHUTDOWN;    /* dropped */
  }
}

static bool
is_accessible (const struct snapshot *snap, uint64_t count, uint64_t offset)
{
  return bitmap_all_set (&snap->access, offset / snap->cluster_size,
                         (offset + count + snap->cluster_size - 1) /
                         snap->cluster_size);
}

/* Look the snapshot up and check the request.  On success *chain holds a
 * reference and *k is the snapshot's index in it.
 */
static int
view_begin (struct engine *e, uint64_t id, uint64_t count, uint64_t offset,
            struct chain **chain, size_t *k)
{
  const struct snapshot *snap;
  int i;

  *chain = chain_get (&e->chain);
  i = chain_find (*chain, id);
  if (i == -1)
    return ESHUTDOWN;
  *k = (size_t) i;
  snap = (*chain)->snaps[i];
  if (count == 0 || offset > snap->size || count > snap->size - offset)
    return EINVAL;
  return check_state (snap);
}

/* The source has been read: look at the chain anew, since a snapshot made
 * meanwhile holds what was overwritten meanwhile.
 */
static int
view_again (struct engine *e, uint64_t id, struct chain **chain, size_t *k)
{
  int i;

  /* Pairs with the fence in engine_guest_begin. */
  atomic_thread_fence (memory_order_acquire);
  *chain = chain_get (&e->chain);
  i = chain_find (*chain, id);
  if (i == -1)
    return ESHUTDOWN;
  *k = (size_t) i;
  return 0;
}

/* The last step, after the data: a break or a discard that this read raced
 * with came before the first change that was not preserved.
 */
static int
view_end (const struct chain *chain, size_t k)
{
  atomic_thread_fence (memory_order_acquire);
  return check_state (chain->snaps[k]);
}

/* The smallest range that covers all that comes from the source now. */
static bool
source_hull (const struct chain *chain, size_t k, uint64_t offset,
             uint64_t end, uint64_t *from, uint64_t *to)
{
  struct walk w;
  bool any = false;

  walk_start (&w, chain, k, offset, end);
  while (walk_next (&w))
    if (walk_in_source (&w)) {
      if (!any)
        *from = w.from;
      *to = w.to;
      any = true;
    }
  return any;
}

int
view_read (struct engine *e, const struct source *source, uint64_t id,
           void *buf, uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  unsigned char *p = buf;
  struct error error;
  struct walk w;
  uint64_t from, to;
  size_t k;
  int r, source_err = 0;

  r = view_begin (e, id, count, offset, &before, &k);
  if (r != 0)
    return r;
  if (!is_accessible (before->snaps[k], count, offset))
    return EPERM;
  if (source_hull (before, k, offset, offset + count, &from, &to))
    source_err = source_pread (source, p + (from - offset),
                               (uint32_t) (to - from), from);
  r = view_again (e, id, &after, &k);
  if (r != 0)
    return r;

  walk_start (&w, after, k, offset, offset + count);
  while (walk_next (&w)) {
    if (!w.accessible)
      return EPERM;
    if (walk_in_source (&w)) {
      if (source_err)
        return source_err;
    }
    else if (walk_target (&w) == NULL)
      return EIO;
    else if (walk_target (&w)->ops->pread (walk_target (&w),
                                           p + (w.from - offset),
                                           w.to - w.from, w.from,
                                           &error) == -1) {
      nbdkit_error ("cbw: %s", error.msg);
      return EIO;
    }
  }
  r = view_end (after, k);
  return r == 0 && !is_accessible (after->snaps[k], count, offset) ?
    EPERM : r;
}

/* How far the last extent may go beyond what was asked for.  It saves the
 * client questions, and the source the search for its end: on some file
 * systems that takes as long as the extent.
 */
#define EXTENTS_BEYOND (UINT64_C (64) << 30)

/* Extents being put together: neighbours of one type become one. */
struct list {
  struct cbw_extent *extents;
  uint32_t nr;
  uint64_t total;               /* bytes that they cover */
  uint64_t enough;              /* from here on only the last may grow */
};

/* False if there is no room, or no need. */
static bool
list_add (struct list *l, uint64_t length, uint32_t type)
{
  if (l->nr > 0 && l->extents[l->nr - 1].type == type)
    l->extents[l->nr - 1].length += length;
  else if (l->nr == CBW_EXTENTS_MAX || l->total >= l->enough)
    return false;
  else
    l->extents[l->nr++] = (struct cbw_extent) {
      .length = length, .type = type
    };
  l->total += length;
  return true;
}

/* Add what the target says of one part. */
static int
list_add_target (struct list *l, struct image *target, uint64_t from,
                 uint64_t to, bool *full)
{
  struct error error;
  uint64_t next;
  bool data;

  for (; from < to && !*full; from = next) {
    if (target == NULL ||
        target->ops->extent (target, from, to, &next, &data, &error) == -1)
      return EIO;
    *full = !list_add (l, next - from,
                       data ? 0 : CBW_EXTENT_HOLE | CBW_EXTENT_ZERO);
  }
  return 0;
}

/* Add what the source said of one part.  *cursor walks through its
 * extents with the parts; beyond the last, nothing is known.
 */
static void
list_add_source (struct list *l, const struct nbdkit_extents *from_source,
                 size_t *cursor, uint64_t from, uint64_t to, bool *full)
{
  struct nbdkit_extent x;
  uint64_t next;

  for (; from < to && !*full; from = next) {
    if (from_source == NULL) {
      *full = !list_add (l, to - from, 0);
      return;
    }
    do {
      if (*cursor == nbdkit_extents_count (from_source)) {
        *full = true;
        return;
      }
      x = nbdkit_get_extent (from_source, *cursor);
    } while (x.offset + x.length <= from && ++*cursor);
    next = min_u64 (x.offset + x.length, to);
    *full = !list_add (l, next - from, x.type);
  }
}

static void
cleanup_extents_free (struct nbdkit_extents **extents)
{
  if (*extents)
    nbdkit_extents_free (*extents);
}

/* How many clusters of the range may be read. */
static uint64_t
count_accessible (const struct snapshot *snap, uint64_t count,
                  uint64_t offset)
{
  const uint64_t end = (offset + count + snap->cluster_size - 1) /
    snap->cluster_size;
  uint64_t c = offset / snap->cluster_size, stop, n = 0;

  for (; c < end; c = stop) {
    c = bitmap_next_set (&snap->access, c, end);
    stop = bitmap_next_clear (&snap->access, c, end);
    n += stop - c;
  }
  return n;
}

/* One try; EAGAIN if something was discarded meanwhile. */
static int
try_extents (struct engine *e, const struct source *source, uint64_t id,
             uint64_t count, uint64_t offset, uint64_t beyond,
             bool can_extents, struct cbw_extent *extents, uint32_t *nr)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  __attribute__ ((cleanup (cleanup_extents_free)))
  struct nbdkit_extents *from_source = NULL;
  struct list l = { .extents = extents, .enough = count };
  size_t k, cursor = 0;
  struct walk w;
  uint64_t from, to, limit, accessible;
  bool full = false;
  int r, err;

  *nr = 0;
  r = view_begin (e, id, count, offset, &before, &k);
  if (r != 0)
    return r;
  limit = offset + min_u64 (before->snaps[k]->size - offset, count + beyond);
  if (can_extents &&
      source_hull (before, k, offset, offset + count, &from, &to)) {
    from_source = source_extents (source,
                                  (uint32_t) min_u64 (to - from, UINT32_MAX),
                                  from, limit, false, &err);
    if (from_source == NULL)
      return err;
  }
  r = view_again (e, id, &after, &k);
  if (r != 0)
    return r;

  accessible = count_accessible (after->snaps[k], limit - offset, offset);
  walk_start (&w, after, k, offset, limit);
  while (!full && walk_next (&w)) {
    if (!w.accessible)
      full = !list_add (&l, w.to - w.from, CBW_EXTENT_HOLE);
    else if (walk_in_source (&w))
      list_add_source (&l, from_source, &cursor, w.from, w.to, &full);
    else {
      r = list_add_target (&l, walk_target (&w), w.from, w.to, &full);
      if (r != 0)
        return r;
    }
  }
  *nr = l.nr;
  r = view_end (after, k);
  if (r == 0 &&
      count_accessible (after->snaps[k], limit - offset, offset) !=
      accessible)
    return EAGAIN;
  return r;
}

int
view_extents (struct engine *e, const struct source *source, uint64_t id,
              uint64_t count, uint64_t offset, bool can_extents,
              struct cbw_extent *extents, uint32_t *nr)
{
  uint64_t beyond = EXTENTS_BEYOND;
  int r;

  /* What a discard punches would look like zeroes.  Less each time, so
   * that it ends: one cluster can be discarded but once.
   */
  while ((r = try_extents (e, source, id, count, offset, beyond, can_extents,
                           extents, nr)) == EAGAIN) {
    count = max_u64 (count / 2, 1);
    beyond = 0;
  }
  return r;
}

int
view_cache (struct engine *e, const struct source *source, uint64_t id,
            uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *chain = NULL;
  uint64_t from, to;
  size_t k;
  int r;

  r = view_begin (e, id, count, offset, &chain, &k);
  if (r != 0)
    return r;
  if (source_hull (chain, k, offset, offset + count, &from, &to))
    return source_cache (source, (uint32_t) (to - from), from);
  return 0;
}

int
view_discard (struct engine *e, uint64_t id, uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *chain = NULL;
  struct snapshot *snap;
  uint64_t start, end;
  size_t j, k;
  int r;

  r = view_begin (e, id, count, offset, &chain, &k);
  if (r != 0)
    return r;
  snap = chain->snaps[k];
  if (snap->entry->options.backup)
    return EPERM;               /* the image is to be whole */
  start = (offset + snap->cluster_size - 1) / snap->cluster_size;
  end = offset + count == snap->size ? snapshot_clusters (snap) :
    (offset + count) / snap->cluster_size;
  if (start >= end)
    return 0;

  bitmap_clear (&snap->access, start, end);
  copy_wait (&e->copier, start, end);

  /* The newer ones, too: it may have been the last to look through them,
   * also through one that has come since we began.
   */
  chain_put (chain);
  chain = chain_get (&e->chain);
  for (j = k = (size_t) chain_find (chain, id); chain && j < chain->len; ++j)
    if (j == k || snapshot_state (chain->snaps[j]) != CBW_SNAPSHOT_BROKEN)
      chain_punch (chain, j, start, end);
  return 0;
}
