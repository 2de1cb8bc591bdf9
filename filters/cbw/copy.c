/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "copy.h"
#include "iszero.h"
#include "rounding.h"

/* A copy moves at most this many bytes, or one cluster if that is more:
 * a neighbour waits no longer than for one piece, and the piece is still
 * in the CPU's cache when it is written.
 */
#define PIECE_SIZE (256 * 1024)

struct copy_claim {
  struct copy_claim *next;
  struct chain_need need;
  pthread_cond_t released;
};

struct copy_buffer {
  struct copy_buffer *next;
};

void
copier_init (struct copier *c)
{
  pthread_mutex_init (&c->lock, NULL);
  c->claims = NULL;
  c->buffers = NULL;
}

void
copier_destroy (struct copier *c)
{
  struct copy_buffer *buffer;

  while ((buffer = c->buffers) != NULL) {
    c->buffers = buffer->next;
    free (buffer);
  }
  pthread_mutex_destroy (&c->lock);
}

static uint64_t
piece_clusters (const struct snapshot *snap)
{
  return max_u64 (PIECE_SIZE / snap->cluster_size, 1);
}

/* A buffer for one piece, the one used last if there is one. */
static void *
buffer_get (struct copier *c, const struct snapshot *snap)
{
  struct copy_buffer *buffer;
  void *p;

  {
    LOCK_FOR_SCOPE (&c->lock);
    buffer = c->buffers;
    if (buffer)
      c->buffers = buffer->next;
  }
  if (buffer == NULL &&
      posix_memalign (&p, 4096,
                      piece_clusters (snap) * snap->cluster_size) == 0)
    buffer = p;
  return buffer;
}

static void
buffer_put (struct copier *c, void *p)
{
  struct copy_buffer *buffer = p;

  LOCK_FOR_SCOPE (&c->lock);
  buffer->next = c->buffers;
  c->buffers = buffer;
}

/* Claim the first run of [start, end) that needs copying, or the first
 * "max" clusters of it.  Returns false if none does.  Not inlined: gcc 12
 * would see only that a local variable of the caller goes on the list, not
 * that release takes it off again.
 */
__attribute__ ((noinline)) static bool
claim (struct copier *c, const struct chain *chain,
       uint64_t start, uint64_t end, uint64_t max,
       struct copy_claim *mine)
{
  struct copy_claim *other;

  LOCK_FOR_SCOPE (&c->lock);
 again:
  if (!chain_next_needed (chain, start, end, &mine->need))
    return false;
  if (mine->need.end - mine->need.start > max)
    mine->need.end = mine->need.start + max;
  for (other = c->claims; other; other = other->next) {
    if (other->need.start <= mine->need.start &&
        mine->need.start < other->need.end) {
      pthread_cond_wait (&other->released, &c->lock);
      goto again;               /* "other" is gone, or smaller */
    }
    if (other->need.start > mine->need.start)
      mine->need.end = min_u64 (mine->need.end, other->need.start);
  }

  pthread_cond_init (&mine->released, NULL);
  mine->next = c->claims;
  c->claims = mine;
  return true;
}

/* Give back what lies behind "end", so that nobody waits for it. */
static void
shrink (struct copier *c, struct copy_claim *mine, uint64_t end)
{
  LOCK_FOR_SCOPE (&c->lock);
  if (end < mine->need.end) {
    mine->need.end = end;
    pthread_cond_broadcast (&mine->released);
  }
}

static void
release (struct copier *c, struct copy_claim *mine)
{
  struct copy_claim **p;

  {
    LOCK_FOR_SCOPE (&c->lock);
    for (p = &c->claims; *p != mine; p = &(*p)->next)
      ;
    *p = mine->next;
    pthread_cond_broadcast (&mine->released);
  }
  pthread_cond_destroy (&mine->released);
}

/* Clusters [start, end) are in the target, "written" bytes of them as
 * data and the rest as hole.
 */
static void
set_done (const struct snapshot *snap, uint64_t start, uint64_t end,
          uint64_t written)
{
  bitmap_set (&snap->done, start, end);
  atomic_fetch_add_explicit (&snap->entry->copied_clusters, end - start,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&snap->entry->copied_bytes, written,
                             memory_order_relaxed);
}

/* Write what is not zero of a piece, neighbouring clusters in one go. */
static int
write_piece (const struct snapshot *snap, const unsigned char *buf,
             uint64_t offset, uint64_t len, uint64_t *written,
             struct error *e)
{
  struct image *target = snap->target;
  uint64_t pos, data = 0, n;    /* [data, pos) is yet to be written */

  *written = 0;
  for (pos = 0; pos <= len; pos += n) {
    n = min_u64 (snap->cluster_size, len - pos);
    if (n > 0 && !is_zero (buf + pos, n))
      continue;
    if (data < pos) {
      if (target->ops->pwrite (target, buf + data, pos - data, offset + data,
                               e) == -1)
        return -1;
      *written += pos - data;
    }
    data = pos + n;
    if (n == 0)
      break;
  }
  return 0;
}

/* Copy the first piece of a claim.  Returns the cluster up to which all
 * is done, or 0 and sets the error; *failed_at is then the offset.
 */
static uint64_t
copy_piece (struct copier *c, const struct snapshot *snap,
            const struct source *source, struct copy_claim *mine,
            bool sparse, struct error *e)
{
  const uint64_t cs = snap->cluster_size;
  const uint64_t offset = mine->need.start * cs;
  uint64_t end = min_u64 (mine->need.end,
                          mine->need.start + piece_clusters (snap));
  uint64_t len, zeroes, written = 0;
  void *buf;
  int r;

  if (snap->target == NULL) {
    error_set (e, EIO, "the target of snapshot \"%s\" is missing",
               snap->entry->name);
    return 0;
  }
  if (sparse) {
    len = min_u64 (mine->need.end * cs, snap->size) - offset;
    zeroes = source_zeroes (source, len, offset);
    if (zeroes == len || zeroes >= cs) {
      end = zeroes == len ? mine->need.end : mine->need.start + zeroes / cs;
      set_done (snap, mine->need.start, end, 0);
      return end;
    }
    shrink (c, mine, end);
  }

  len = min_u64 (end * cs, snap->size) - offset;
  buf = buffer_get (c, snap);
  if (buf == NULL) {
    error_set_errno (e, ENOMEM, "buffer for a copy");
    return 0;
  }
  r = source_pread (source, buf, (uint32_t) len, offset);
  if (r != 0)
    error_set_errno (e, r, "cannot read old data from the disk");
  else
    r = write_piece (snap, buf, offset, len, &written, e);
  buffer_put (c, buf);
  if (r != 0)
    return 0;
  set_done (snap, mine->need.start, end, written);
  return end;
}

void
copy_range (struct copier *c, const struct chain *chain,
            const struct source *source, uint64_t start, uint64_t end,
            bool sparse)
{
  const struct snapshot *snap = chain_newest (chain);
  /* A hole may be as long as it likes: it takes no time. */
  const uint64_t max = sparse ? end - start : piece_clusters (snap);
  struct copy_claim mine;
  struct error e;
  uint64_t done;

  while (start < end && claim (c, chain, start, end, max, &mine)) {
    done = copy_piece (c, snap, source, &mine, sparse, &e);
    /* Broken first, then released: whoever waited must not think that
     * the cluster is still to be copied, nor that it was.  Older snapshots
     * may need it too: they have their own try.
     */
    if (done == 0)
      snapshot_break (mine.need.by, CBW_BROKEN_COPY, e.num,
                      mine.need.start * snap->cluster_size, e.msg);
    release (c, &mine);
    start = done ? done : mine.need.start;
  }
}
