/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a snapshot for a client: the chain before and after the source is
 * read (R2), and what guests write there that was there already (RS).
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "below/log.h"
#include "service/serve-read.h"
#include "utils/rounding.h"
#include "view/read.h"
#include "view/walk.h"

/* Look the snapshot up in the chain as it is now.  *chain holds a reference, or
 * is NULL, whatever is returned; on success *k is the snapshot's index in it.
 */
static int
look_up (struct engine *e, uint64_t id, struct chain **chain, size_t *k)
{
  int i;

  *chain = chain_get (&e->chain);
  i = chain_find (*chain, id);
  if (i == -1)
    return ESHUTDOWN;
  *k = (size_t) i;
  return 0;
}

/* Look the snapshot up and check the request. */
static int
begin (struct engine *e, uint64_t id, uint64_t count, uint64_t offset,
       struct chain **chain, size_t *k)
{
  const int r = look_up (e, id, chain, k);

  return r == 0 ? view_check (&(*chain)->views, *k, count, offset) : r;
}

/* R2: the source has been read.  Look at the chain anew, since a snapshot made
 * meanwhile holds what was overwritten meanwhile.
 */
static int
look_again (struct engine *e, uint64_t id, struct chain **chain, size_t *k)
{
  /* Pairs with the fence in engine_guest_begin. */
  atomic_thread_fence (memory_order_acquire);
  return look_up (e, id, chain, k);
}

int
serve_read (struct engine *e, struct image *source, uint64_t id, void *buf,
            uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  struct view_part part;
  struct error error;
  size_t k;
  int r;

  r = begin (e, id, count, offset, &before, &k);
  if (r == 0)
    r = view_read_source (&before->views, k, source, buf, count, offset,
                          &part);
  if (r == 0)
    r = look_again (e, id, &after, &k);                             /* R2 */
  if (r != 0)
    return r;
  if (part.from < part.to && part.err == 0)
    copy_overlay (&e->copier, (char *) buf + (part.from - offset),  /* RS */
                  part.from, part.to - part.from);
  r = view_read_rest (&after->views, k, &part, buf, count, offset, &error);
  if (error.num != 0)
    log_error ("cbw: %s", error.msg);
  return r;
}

static void
cleanup_view_source (struct view_source *said)
{
  free (said->extents);
}

/* One try; *discarded: it was of no use. */
static int
try_extents (struct engine *e, struct image *source, uint64_t id,
             uint64_t count, uint64_t offset, uint64_t beyond,
             bool can_extents, struct cbw_extent *extents, uint32_t *nr,
             bool *discarded)
{
  CLEANUP_CHAIN_PUT struct chain *before = NULL;
  CLEANUP_CHAIN_PUT struct chain *after = NULL;
  __attribute__ ((cleanup (cleanup_view_source)))
  struct view_source said = { .nr = 0 };
  const struct view *view;
  uint64_t limit, certain;
  size_t k;
  int r;

  r = begin (e, id, count, offset, &before, &k);
  if (r != 0)
    return r;
  view = before->views.views[k];
  limit = offset + min_u64 (view->size - offset, count + beyond);
  if (can_extents)
    r = view_extents_source (&before->views, k, source, count, offset, limit,
                             &said);
  if (r == 0)
    r = look_again (e, id, &after, &k);                             /* R2 */
  if (r != 0)
    return r;
  /* A guest writes there what was there already, and might fail: then the
   * source may have holes where there was data.
   */
  certain = copy_first_uncertain (&e->copier, offset, limit - offset); /* RS */
  if (certain > offset)
    limit = certain;            /* the client asks for the rest */
  else if (said.extents) {
    free (said.extents);
    said.extents = NULL;
    limit = offset + min_u64 (count, view->cluster_size);
  }
  return view_extents_rest (&after->views, k, &said, count, offset, limit,
                            extents, nr, discarded);
}

int
serve_extents (struct engine *e, struct image *source, uint64_t id,
               uint64_t count, uint64_t offset, bool can_extents,
               struct cbw_extent *extents, uint32_t *nr)
{
  uint64_t beyond = VIEW_EXTENTS_BEYOND;
  bool discarded = false;
  int r;

  /* What a discard punches would look like zeroes.  Less each time, so that it
   * ends: one cluster can be discarded but once.
   */
  for (;;) {
    *nr = 0;
    r = try_extents (e, source, id, count, offset, beyond, can_extents,
                     extents, nr, &discarded);
    if (r != 0 || !discarded)
      return r;
    count = max_u64 (count / 2, 1);
    beyond = 0;
  }
}

int
serve_cache (struct engine *e, const struct source *source, uint64_t id,
             uint64_t count, uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *chain = NULL;
  uint64_t from, to;
  size_t k;
  int r;

  r = begin (e, id, count, offset, &chain, &k);
  if (r != 0)
    return r;
  if (walk_source_hull (&chain->views, k, offset, offset + count, &from, &to))
    return source_cache (source, (uint32_t) (to - from), from);
  return 0;
}
