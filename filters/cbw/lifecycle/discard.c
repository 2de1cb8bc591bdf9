/* SPDX-License-Identifier: BSD-3-Clause */

/* Discarding what a client will not read any more.  Service threads call this;
 * docs/correctness.md, section 12, has the argument, D1 to D3.
 */

#include <config.h>

#include <errno.h>

#include "lifecycle/lifecycle.h"
#include "view/read.h"

int
discard_clusters (struct engine *e, uint64_t id, uint64_t count,
                  uint64_t offset)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&e->chain);
  const int i = chain_find (chain, id);
  const struct view *view;
  uint64_t start, end;
  size_t j, k;
  int r;

  if (i == -1)
    return ESHUTDOWN;
  r = view_check (&chain->views, (size_t) i, count, offset);
  if (r != 0)
    return r;
  view = chain->views.views[i];
  if (view->backup)
    return EPERM;               /* the image is to be whole */
  start = (offset + view->cluster_size - 1) / view->cluster_size;
  end = offset + count == view->size ? view_clusters (view) :
    (offset + count) / view->cluster_size;
  if (start >= end)
    return 0;

  bitmap_clear (&view->access, start, end);                         /* D1 */
  claims_wait (&e->copier.claims, start, end);                      /* D2 */

  /* The newer ones, too: it may have been the last to look through them, even
   * through one that has come since this began.
   */
  chain_put (chain);
  chain = chain_get (&e->chain);
  for (j = k = (size_t) chain_find (chain, id); chain && j < chain->len; ++j)
    if (j == k || snapshot_state (chain->snaps[j]) != CBW_SNAPSHOT_BROKEN)
      chain_punch (chain, j, start, end);                           /* D3 */
  return 0;
}
