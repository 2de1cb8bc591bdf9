/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading and discarding a range of a snapshot.  Service threads call this.
 * docs/correctness.md, section 2, has the argument for the order of the steps,
 * R1 to R5.
 */

#include <config.h>

#include <errno.h>

#include <nbdkit-filter.h>

#include "snapshot/walk.h"
#include "view/view-steps.h"
#include "view/view.h"

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

int
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

int
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

int
view_end (const struct chain *chain, size_t k)
{
  atomic_thread_fence (memory_order_acquire);
  return check_state (chain->snaps[k]);
}

int
view_read (struct engine *e, struct image *source, uint64_t id,
           void *buf, uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  unsigned char *p = buf;
  struct error error = { .num = 0 }; /* of the source */
  struct walk w;
  uint64_t from, to;
  bool from_source;
  size_t k;
  int r;

  r = view_begin (e, id, count, offset, &before, &k);
  if (r != 0)
    return r;
  if (!is_accessible (before->snaps[k], count, offset))
    return EPERM;
  from_source = walk_source_hull (before, k, offset, offset + count, &from,
                                  &to);
  if (from_source)
    from_source = source->ops->pread (source, p + (from - offset),  /* R1 */
                                      to - from, from, &error) == 0;
  r = view_again (e, id, &after, &k);                               /* R2 */
  if (r != 0)
    return r;
  if (from_source)
    copy_overlay (&e->copier, p + (from - offset), from, to - from); /* RS */

  walk_start (&w, after, k, source, offset, offset + count);        /* R3 */
  while (walk_next (&w)) {
    if (!w.accessible)
      return EPERM;
    if (walk_in_source (&w)) {
      if (!from_source)
        return error.num;
    }
    else if (w.image->ops->pread (w.image, p + (w.from - offset),   /* R4 */
                                  w.to - w.from, w.from, &error) == -1) {
      nbdkit_error ("cbw: %s", error.msg);
      return EIO;
    }
  }
  r = view_end (after, k);                                          /* R5 */
  return r == 0 && !is_accessible (after->snaps[k], count, offset) ? /* R6 */
    EPERM : r;
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
  if (walk_source_hull (chain, k, offset, offset + count, &from, &to))
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
  if (snap->fixed.options.backup)
    return EPERM;               /* the image is to be whole */
  start = (offset + snap->cluster_size - 1) / snap->cluster_size;
  end = offset + count == snap->size ? snapshot_clusters (snap) :
    (offset + count) / snap->cluster_size;
  if (start >= end)
    return 0;

  bitmap_clear (&snap->access, start, end);                         /* D1 */
  copy_wait (&e->copier, start, end);                               /* D2 */

  /* The newer ones, too: it may have been the last to look through them,
   * also through one that has come since we began.
   */
  chain_put (chain);
  chain = chain_get (&e->chain);
  for (j = k = (size_t) chain_find (chain, id); chain && j < chain->len; ++j)
    if (j == k || snapshot_state (chain->snaps[j]) != CBW_SNAPSHOT_BROKEN)
      chain_punch (chain, j, start, end);                           /* D3 */
  return 0;
}
