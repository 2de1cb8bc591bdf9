/* SPDX-License-Identifier: BSD-3-Clause */

/* Settling a range of a backup, for the threads of fill.c.  The bits are set
 * after the data is in the target, and before the claim is released.
 */

#include <config.h>

#include <assert.h>

#include "backup/compared.h"
#include "backup/settle.h"
#include "copy/transfer.h"
#include "image/image.h"
#include "snapshot/accounting.h"
#include "utils/rounding.h"

/* Clusters of the backup, all held by one, in the chain as it is now. */
struct holder_run {
  const struct chain *chain;
  size_t k;                     /* index of the backup */
  uint64_t start, end;
  size_t holder;                /* chain->len: the source */
  struct image *image;          /* the holder's */
};

static bool
in_source (const struct holder_run *run)
{
  return run->holder == run->chain->len;
}

static uint64_t
offset_of (const struct holder_run *run)
{
  return run->start * run->chain->snaps[run->k]->view.cluster_size;
}

static uint64_t
length_of (const struct holder_run *run)
{
  return snapshot_bytes (run->chain->snaps[run->k], run->start, run->end);
}

/* The first run of [start, end); the backup is in the chain. */
static struct holder_run
first_run (const struct settle *s, const struct chain *chain, uint64_t start,
           uint64_t end)
{
  struct holder_run run = {
    .chain = chain, .k = (size_t) chain_find (chain, s->snap->view.id),
    .start = start
  };

  run.holder = view_holder (&chain->views, run.k, start, end, &run.end);
  run.image = view_image (&chain->views, run.holder, s->source);
  return run;
}

/* How many bytes of the run, from its start on, are of one kind? */
static uint64_t
extent_of (const struct holder_run *run, bool *hole)
{
  const uint64_t offset = offset_of (run);
  struct error e;
  uint64_t next;
  bool data;

  *hole = false;
  if (run->image->ops->extent (run->image, offset, offset + length_of (run),
                               &next, &data, &e) == -1 ||
      image_verify (run->image, &e) == -1)
    return 0;                   /* unknown */
  *hole = !data;
  return next - offset;
}

/* The same in whole clusters; 0 if less than one. */
static uint64_t
clusters_of (const struct holder_run *run, uint64_t bytes)
{
  return bytes == length_of (run) ? run->end - run->start :
    bytes / run->chain->snaps[run->k]->view.cluster_size;
}

uint64_t
settle_probe (const struct settle *s, uint64_t start, uint64_t end,
              bool *hole)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (s->chain);
  struct holder_run run;
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

/* Its data is in the target. */
static void
set_settled (const struct settle *s, const struct holder_run *run,
             const struct transfer *t, const struct claim *mine)
{
  struct snapshot *snap = s->snap;
  struct chain_need need;

  assert (claim_covers (mine, t->start, t->end));
  if (!in_source (run)) {       /* a newer one holds it */
    assert (snapshot_is_backup (snap));
    bitmap_set (&snap->moved, t->start, t->end);
    accounting_moved (snap, t->end - t->start, t->held);
    return;
  }
  transfer_set_done (t, mine);
  /* An older snapshot may still have it from the source: then a guest must
   * look.
   */
  if (!chain_next_needed (run->chain, t->start, t->end, &need))
    bitmap_set (&snap->settled, t->start, t->end);
}

/* Transfer a run, or a part of one. */
static enum transfer_result
settle_transfer (struct settle *s, const struct holder_run *run,
                 struct transfer *t, const struct claim *mine,
                 struct error *e)
{
  const enum transfer_result r = transfer_run (&s->copier->buffers, t, e);

  if (r == TRANSFER_DONE)
    set_settled (s, run, t, mine);
  else
    s->error_offset = transfer_offset (t);
  return r;
}

static enum transfer_result
copy_run (struct settle *s, const struct holder_run *run,
          const struct claim *mine, bool hole, struct error *e)
{
  struct transfer t = {
    .snap = s->snap, .start = run->start, .end = run->end,
    .from = run->image, .to = s->snap->target, .hole = hole,
  };
  const enum transfer_result r = settle_transfer (s, run, &t, mine, e);

  if (!hole && (r == TRANSFER_DONE || r == TRANSFER_WRITE_FAILED))
    s->bytes += length_of (run);
  return r;
}

/* The end of the first clusters of [start, end) that are all equal in both, or
 * all different.
 */
static uint64_t
same_until (const struct compared *b, uint64_t start, uint64_t end, bool *same)
{
  uint64_t c;

  *same = compared_is_same (b, start);
  for (c = start + 1; c < end && compared_is_same (b, c) == *same; ++c)
    ;
  return c;
}

/* Write only what the target does not hold. */
static enum transfer_result
compare_run (struct settle *s, const struct holder_run *run,
             const struct claim *mine, struct error *e)
{
  __attribute__ ((cleanup (compared_free))) struct compared b = { 0 };
  struct transfer t = {
    .snap = s->snap, .start = run->start, .end = run->end,
    .to = s->snap->target,
  };
  enum transfer_result r;
  bool same;

  if (compared_are_zeroes (s->snap, run->image, run->start, run->end)) {
    set_settled (s, run, &t, mine);
    return TRANSFER_DONE;
  }
  s->error_offset = offset_of (run);
  r = compared_read (&b, s->snap, run->image, run->start, run->end, e);
  if (r != TRANSFER_DONE)
    return r;
  s->bytes += length_of (run);
  for (; t.start < run->end && r == TRANSFER_DONE; t.start = t.end) {
    t.end = same_until (&b, t.start, run->end, &same);
    t.known = compared_data (&b, t.start);
    t.held = 0;
    if (same)
      set_settled (s, run, &t, mine);
    else
      r = settle_transfer (s, run, &t, mine, e);
  }
  return r;
}

/* Settle what is claimed.  The claim comes first, then the look at the
 * chain: whoever held it for a snapshot taken meanwhile is in the chain by
 * now, and has its done bits set.
 */
static enum transfer_result
settle_claimed (struct settle *s, const struct chain *chain,
                const struct claim *mine, bool holes, struct error *e)
{
  enum transfer_result r = TRANSFER_DONE;
  struct holder_run run;
  uint64_t c, n;
  bool hole;

  if (chain_find (chain, s->snap->view.id) == -1 ||
      snapshot_state (s->snap) != CBW_SNAPSHOT_LIVE)
    return TRANSFER_LEFT_OUT;
  for (c = mine->need.start; c < mine->need.end && r == TRANSFER_DONE;
       c = run.end) {
    run = first_run (s, chain, c, mine->need.end);
    if (run.holder == run.k)
      continue;                 /* a guest was faster */
    if (holes) {
      /* Asked again, as nobody changes it now. */
      n = clusters_of (&run, extent_of (&run, &hole));
      if (n == 0 || !hole)
        break;
      run.end = run.start + n;
    }
    r = settle_compares (s->snap) ?
      compare_run (s, &run, mine, e) : copy_run (s, &run, mine, holes, e);
  }
  return r;
}

/* Find what of a backup is not settled, for claim_first. */
static bool
find_unsettled (const void *of, uint64_t start, uint64_t end,
                struct chain_need *need)
{
  const struct settle *s = of;

  need->by = s->snap;
  need->start = snapshot_next_unsettled (s->snap, start, end);
  if (need->start == end)
    return false;
  /* Not from need->start on: a guest may have copied that meanwhile. */
  need->end = snapshot_next_settled (s->snap, need->start + 1, end);
  return true;
}

/* The first claim from request->start on. */
static bool
claim_unsettled (struct settle *s, struct claim_request *request,
                 struct claim *mine)
{
  if (claim_first (&s->copier->claims, request, mine) != CLAIM_MINE) /* F1 */
    return false;
  request->start = mine->need.end;
  return true;
}

enum transfer_result
settle_range (struct settle *s, uint64_t start, uint64_t end, bool hole,
              struct error *e)
{
  struct claim_request request = {
    .find = find_unsettled, .of = s, .start = start, .end = end,
    .max = UINT64_MAX, .others = CLAIM_SKIP,
  };
  enum transfer_result r = TRANSFER_DONE;
  struct claim mine;
  struct chain *chain;

  s->bytes = 0;
  while (r == TRANSFER_DONE && claim_unsettled (s, &request, &mine)) {
    chain = chain_get (s->chain);                                   /* F2 */
    r = settle_claimed (s, chain, &mine, hole, e);
    claim_release (&s->copier->claims, &mine);                      /* F3 */
    chain_put (chain);          /* which may close images: that takes time */
  }
  return r;
}

/* Of what is claimed. */
static void
settle_claimed_held (struct settle *s, const struct chain *chain,
                     const struct claim *mine)
{
  struct transfer t = { .snap = s->snap };
  struct holder_run run;
  uint64_t c;

  if (chain_find (chain, s->snap->view.id) == -1)
    return;
  for (c = mine->need.start; c < mine->need.end; c = run.end) {
    run = first_run (s, chain, c, mine->need.end);
    t.start = run.start;
    t.end = run.end;
    if (run.holder != run.k)
      set_settled (s, &run, &t, mine);                              /* Y3 */
  }
}

void
settle_held (struct settle *s, uint64_t start, uint64_t end)
{
  struct claim_request request = {
    .find = find_unsettled, .of = s, .start = start, .end = end,
    .max = UINT64_MAX, .others = CLAIM_SKIP,
  };
  struct chain *chain;
  struct claim mine;

  while (claim_unsettled (s, &request, &mine)) {
    chain = chain_get (s->chain);                                   /* F2 */
    settle_claimed_held (s, chain, &mine);
    claim_release (&s->copier->claims, &mine);                      /* F3 */
    chain_put (chain);
  }
}
