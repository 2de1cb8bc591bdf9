/* SPDX-License-Identifier: BSD-3-Clause */

/* Settling a range of a backup, for the threads of fill.c.  The bits are set
 * after the data is in the target, and before the claim is released.
 */

#include <config.h>

#include <errno.h>

#include "backup/settle.h"
#include "copy/piece.h"
#include "image/image.h"
#include "snapshot/accounting.h"
#include "utils/rounding.h"

/* Clusters of the backup, all held by one, in the chain as it is now. */
struct run {
  const struct chain *chain;
  size_t k;                     /* index of the backup */
  uint64_t start, end;
  size_t holder;                /* chain->len: the source */
  struct image *image;          /* the holder's */
};

static bool
in_source (const struct run *run)
{
  return run->holder == run->chain->len;
}

static uint64_t
offset_of (const struct run *run)
{
  return run->start * run->chain->snaps[run->k]->view.cluster_size;
}

static uint64_t
length_of (const struct run *run)
{
  return snapshot_bytes (run->chain->snaps[run->k], run->start, run->end);
}

/* The first run of [start, end); the backup is in the chain. */
static struct run
first_run (const struct settle *s, const struct chain *chain, uint64_t start,
           uint64_t end)
{
  struct run run = {
    .chain = chain, .k = (size_t) chain_find (chain, s->snap->view.id),
    .start = start
  };

  run.holder = view_holder (&chain->views, run.k, start, end, &run.end);
  run.image = view_image (&chain->views, run.holder, s->source);
  return run;
}

/* How many bytes of the run, from its start on, are of one kind? */
static uint64_t
extent_of (const struct run *run, bool *hole)
{
  const uint64_t offset = offset_of (run);
  struct error e;
  uint64_t next;
  bool data;

  *hole = false;
  if (run->image->ops->extent (run->image, offset, offset + length_of (run),
                               &next, &data, &e) == -1)
    return 0;                   /* unknown */
  *hole = !data;
  return next - offset;
}

/* The same in whole clusters; 0 if less than one. */
static uint64_t
clusters_of (const struct run *run, uint64_t bytes)
{
  return bytes == length_of (run) ? run->end - run->start :
    bytes / run->chain->snaps[run->k]->view.cluster_size;
}

uint64_t
settle_probe (const struct settle *s, uint64_t start, uint64_t end,
              bool *hole)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (s->chain);
  struct run run;
  uint64_t n, limit;

  *hole = false;
  if (chain_find (chain, s->snap->view.id) == -1)
    return end;
  run = first_run (s, chain, start, end);
  if (run.holder == run.k)      /* there is nothing to be read */
    return run.end;
  /* The source has data behind clusters that others hold, too.  To ask again
   * after each of these would be expensive.
   */
  limit = run.end;
  if (in_source (&run))
    run.end = end;
  n = clusters_of (&run, extent_of (&run, hole));
  if (n == 0) {
    *hole = false;
    n = 1;
  }
  return *hole ? min_u64 (start + n, limit) : start + n;
}

/* Its data is in the target: "held" bytes, of what has been written. */
static void
set_settled (const struct settle *s, const struct run *run, uint64_t held)
{
  struct snapshot *snap = s->snap;
  struct chain_need need;

  if (!in_source (run)) {       /* a newer one holds it */
    bitmap_set (&snap->moved, run->start, run->end);
    accounting_moved (snap, run->end - run->start, held);
    return;
  }
  piece_done (snap, run->start, run->end, held);
  /* An older snapshot may still have it from the source: then a guest must
   * look.
   */
  if (!chain_next_needed (run->chain, run->start, run->end, &need))
    bitmap_set (&snap->settled, run->start, run->end);
}

static int
copy_run (struct settle *s, const struct run *run, struct error *e)
{
  uint64_t held;

  s->error_offset = offset_of (run);
  s->error_is_read = true;
  if (run->image->ops->pread (run->image, s->buf, length_of (run),
                              s->error_offset, e) == -1)
    return -1;
  s->bytes += length_of (run);
  s->error_is_read = false;
  if (piece_write (s->snap, s->snap->target, s->buf, run->start, run->end,
                   &held, e) == -1)
    return -1;
  set_settled (s, run, held);
  return 0;
}

/* Settle what is claimed.  The claim comes first, then the look at the
 * chain: whoever held it for a snapshot taken meanwhile is in the chain by
 * now, and has its done bits set.
 */
static int
settle_claimed (struct settle *s, const struct chain *chain,
                const struct copy_claim *mine, bool holes, struct error *e)
{
  struct run run;
  uint64_t c, n;
  bool hole;

  if (chain_find (chain, s->snap->view.id) == -1 ||
      snapshot_state (s->snap) != CBW_SNAPSHOT_LIVE)
    return error_set (e, ESHUTDOWN, "the snapshot is gone");
  for (c = mine->need.start; c < mine->need.end; c = run.end) {
    run = first_run (s, chain, c, mine->need.end);
    if (run.holder == run.k)
      continue;                 /* a guest was faster */
    if (!holes) {
      if (copy_run (s, &run, e) == -1)
        return -1;
      continue;
    }
    /* Asked again, as nobody changes it now. */
    n = clusters_of (&run, extent_of (&run, &hole));
    if (n == 0 || !hole)
      break;
    run.end = run.start + n;
    s->error_offset = offset_of (&run);
    s->error_is_read = false;
    if (image_zero (s->snap->target, offset_of (&run), length_of (&run),
                    e) == -1)
      return -1;
    set_settled (s, &run, 0);
  }
  return 0;
}

int
settle_range (struct settle *s, uint64_t start, uint64_t end, bool hole,
              struct error *e)
{
  struct copy_claim mine;
  struct chain *chain;
  int r = 0;

  s->bytes = 0;
  while (r == 0 && copy_claim_free (s->copier, s->snap, start, end,
                                    &mine)) {                       /* F1 */
    start = mine.need.end;
    chain = chain_get (s->chain);                                   /* F2 */
    r = settle_claimed (s, chain, &mine, hole, e);
    copy_claim_release (s->copier, &mine);                          /* F3 */
    chain_put (chain);          /* which may close images: that takes time */
  }
  return r;
}
