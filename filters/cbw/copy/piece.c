/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a piece from the source, and writing it to the target.  All
 * that copies calls this; the caller holds the claim on the piece's clusters.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "copy/piece.h"
#include "snapshot/accounting.h"
#include "utils/cleanup.h"
#include "utils/iszero.h"
#include "utils/rounding.h"

struct piece_buffer {
  struct piece_buffer *next;
};

uint64_t
piece_clusters (const struct snapshot *snap)
{
  return max_u64 (PIECE_SIZE / snap->view.cluster_size, 1);
}

void
piece_pool_init (struct piece_pool *pool)
{
  pthread_mutex_init (&pool->lock, NULL);
  pool->free = NULL;
}

void
piece_pool_destroy (struct piece_pool *pool)
{
  struct piece_buffer *buffer;

  while ((buffer = pool->free) != NULL) {
    pool->free = buffer->next;
    free (buffer);
  }
  pthread_mutex_destroy (&pool->lock);
}

/* A buffer for one piece, the one used last if there is one. */
static void *
buffer_get (struct piece_pool *pool, const struct snapshot *snap)
{
  struct piece_buffer *buffer;
  void *p;

  {
    LOCK_FOR_SCOPE (&pool->lock);
    buffer = pool->free;
    if (buffer)
      pool->free = buffer->next;
  }
  if (buffer == NULL &&
      posix_memalign (&p, 4096,
                      piece_clusters (snap) * snap->view.cluster_size) == 0)
    buffer = p;
  return buffer;
}

void
piece_put (struct piece_pool *pool, void *buf)
{
  struct piece_buffer *buffer = buf;

  LOCK_FOR_SCOPE (&pool->lock);
  buffer->next = pool->free;
  pool->free = buffer;
}

/* Write data to the target, if its quota allows.  *held grows by what the
 * target holds more.
 */
static int
write_data (const struct snapshot *snap, struct image *target,
            const void *buf, uint64_t count, uint64_t offset,
            uint64_t *held_here, struct error *e)
{
  if (accounting_hold (snap, count, e) == -1)
    return -1;
  *held_here += count;
  return target->ops->pwrite (target, buf, count, offset, e);
}

/* Write a piece: neighbouring clusters in one go, and those of zeroes as
 * such.
 */
static int
write_runs (const struct snapshot *snap, struct image *target,
            const unsigned char *buf, uint64_t offset, uint64_t len,
            uint64_t *held, struct error *e)
{
  const uint64_t cs = snap->view.cluster_size;
  bool zero = is_zero (buf, min_u64 (cs, len)), next = zero;
  uint64_t start = 0, end;      /* a run of one kind, and then the next */
  int r;

  for (; start < len; start = end, zero = next) {
    for (end = min_u64 (start + cs, len); end < len && next == zero;
         end = min_u64 (end + cs, len)) {
      next = is_zero (buf + end, min_u64 (cs, len - end));
      if (next != zero)
        break;
    }
    r = zero ?
      image_zero (target, offset + start, end - start, e) :
      write_data (snap, target, buf + start, end - start, offset + start,
                  held, e);
    if (r == -1)
      return -1;
  }
  return 0;
}

void *
piece_read (struct piece_pool *pool, const struct snapshot *snap,
            struct image *source, uint64_t start, uint64_t end,
            struct error *e)
{
  void *buf = buffer_get (pool, snap);

  if (buf == NULL) {
    error_set_errno (e, ENOMEM, "buffer for a copy");
    return NULL;
  }
  if (source->ops->pread (source, buf, snapshot_bytes (snap, start, end),
                          start * snap->view.cluster_size, e) == 0)
    return buf;
  piece_put (pool, buf);
  return NULL;
}

int
piece_write (const struct snapshot *snap, struct image *target,
             const void *buf, uint64_t start, uint64_t end, uint64_t *held,
             struct error *e)
{
  *held = 0;
  if (write_runs (snap, target, buf, start * snap->view.cluster_size,
                  snapshot_bytes (snap, start, end), held, e) == 0)
    return 0;
  accounting_give_back (snap, *held); /* it is to be written again */
  return -1;
}

int
piece_zero (const struct snapshot *snap, uint64_t start, uint64_t end,
            struct error *e)
{
  return image_zero (snap->view.store, start * snap->view.cluster_size,
                     snapshot_bytes (snap, start, end), e);
}

void
piece_done (const struct snapshot *snap, uint64_t start, uint64_t end,
            uint64_t held)
{
  bitmap_set (&snap->view.done, start, end);
  accounting_done (snap, end - start, held);
}
