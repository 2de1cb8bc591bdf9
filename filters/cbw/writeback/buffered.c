/* SPDX-License-Identifier: BSD-3-Clause */

/* The image that stands before a target and puts its writes into the buffer.
 * The engine's copies and reads come here through the image's operations.
 * docs/correctness.md, section 16, has the argument.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/accounting.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"
#include "writeback/writeback-private.h"

/* How many clusters are looked up to say how long a hole is. */
#define EXTENT_LOOK 1024

static struct writeback_image *
to_writeback (struct image *image)
{
  return (struct writeback_image *) image;
}

/* What the image stands before. */
static struct image *
target_of (struct image *image)
{
  return to_writeback (image)->snap->target;
}

/* Has the buffer nothing of it?  What a done bit speaks for, and is not
 * there, is in the target: pairs with the end of a write in drain.c.
 */
static bool
is_drained (const struct writeback_image *wi)
{
  return atomic_load_explicit (&wi->cells, memory_order_acquire) == 0;
}

/* W2: old data of whole clusters, but for the disk's last. */
static int
buffered_pwrite (struct image *image, const void *buf, size_t count,
                 uint64_t offset, struct error *e)
{
  struct writeback_image *wi = to_writeback (image);
  struct image *target = target_of (image);
  struct writeback *w = wi->writeback;
  const uint64_t cs = wi->snap->view.cluster_size;
  struct cell *cells = NULL, *cell;
  const unsigned char *p = buf;
  uint64_t c = offset / cs, left;
  uint32_t n = 0;

  if (w->accept) {
    LOCK_FOR_SCOPE (&w->lock);
    if (!w->stop)
      cells = cells_reserve (&w->cells, (count + cs - 1) / cs);
  }
  if (cells == NULL)
    return target->ops->pwrite (target, buf, count, offset, e);

  for (cell = cells, left = count; cell; cell = cell->next) {
    cell_fill (&w->cells, cell, wi->snap->view.id, c++, p, min_u64 (cs, left));
    p += cs;
    left -= min_u64 (cs, left);
  }

  LOCK_FOR_SCOPE (&w->lock);
  for (c = offset / cs; (cell = cells) != NULL; ++c) {
    cells = cell->next;
    n += cells_add (&w->cells, cell, wi, c);
  }
  writeback_more (wi, n);
  if (w->idle > 0)
    pthread_cond_signal (&w->work);
  return 0;
}

/* Copy what the buffer has of one cluster; false if it has not.  Pinned,
 * so that nobody need wait for the copying.
 */
static bool
read_cell (struct writeback_image *wi, uint64_t cluster, void *buf,
           uint64_t count, uint64_t begin)
{
  struct writeback *w = wi->writeback;
  struct cell *cell;

  {
    LOCK_FOR_SCOPE (&w->lock);
    cell = cells_find (&w->cells, wi, cluster);                     /* R4 */
    if (cell == NULL)
      return false;
    cell_pin (cell);
  }
  memcpy (buf, (const char *) cell_data (&w->cells, cell) + begin, count);
  LOCK_FOR_SCOPE (&w->lock);
  cell_unpin (&w->cells, cell);
  return true;
}

/* Where does the next cluster begin, up to "end", that the buffer has? */
static uint64_t
next_in_buffer (struct writeback_image *wi, uint64_t offset, uint64_t end)
{
  struct writeback *w = wi->writeback;
  const uint64_t cs = wi->snap->view.cluster_size;

  LOCK_FOR_SCOPE (&w->lock);
  while (offset < end && cells_find (&w->cells, wi, offset / cs) == NULL)
    offset = round_down (offset, cs) + cs;
  return min_u64 (offset, end);
}

static int
buffered_pread (struct image *image, void *buf, size_t count,
                uint64_t offset, struct error *e)
{
  struct writeback_image *wi = to_writeback (image);
  struct image *target = target_of (image);
  const uint64_t cs = wi->snap->view.cluster_size, end = offset + count;
  char *p = buf;
  uint64_t next;

  if (is_drained (wi))
    return target->ops->pread (target, buf, count, offset, e);
  for (; offset < end; p += next - offset, offset = next) {
    next = min_u64 (round_down (offset, cs) + cs, end);
    if (read_cell (wi, offset / cs, p, next - offset, offset % cs))
      continue;
    /* Gone from there, it is in the target; nothing ever comes back. */
    next = next_in_buffer (wi, next, end);
    if (target->ops->pread (target, p, next - offset, offset, e) == -1)
      return -1;
  }
  return 0;
}

static int
buffered_verify (struct image *image, struct error *e)
{
  return image_verify (target_of (image), e);
}

static int
buffered_extent (struct image *image, uint64_t offset, uint64_t end,
                 uint64_t *next, bool *data, struct error *e)
{
  struct writeback_image *wi = to_writeback (image);
  struct image *target = target_of (image);
  const uint64_t cs = wi->snap->view.cluster_size;

  if (!is_drained (wi)) {
    *next = next_in_buffer (wi, offset, min_u64 (end, offset +
                                                 EXTENT_LOOK * cs));
    *data = *next == offset;
    if (*data) {
      *next = min_u64 (round_down (offset, cs) + cs, end);
      return 0;
    }
    end = *next;
  }
  return target->ops->extent (target, offset, end, next, data, e);
}

static int
buffered_zero (struct image *image, uint64_t offset, uint64_t count,
               struct error *e)
{
  struct image *target = target_of (image);

  return target->ops->zero (target, offset, count, e);
}

/* A cell that nobody needs any more is not written; one that is being
 * written is punched when it has been.  Adds to *freed the bytes that will
 * not be written, and to *n the cells.  The lock is held.
 */
static void
forget_cell (struct writeback *w, struct cell *cell, uint64_t *freed,
             uint32_t *n)
{
  if (!cell->queued) {
    cell->punched = true;
    return;
  }
  *freed += writeback_bytes (cell->image, cell->cluster);
  cells_release (&w->cells, cell);
  ++*n;
}

/* The same of all cells of the image in [start, end). */
static void
forget_range (struct writeback_image *wi, uint64_t start, uint64_t end)
{
  struct writeback *w = wi->writeback;
  struct snapshot *unused;
  struct cell *cell;
  uint64_t c, freed = 0;
  uint32_t i, n = 0;

  {
    LOCK_FOR_SCOPE (&w->lock);
    if (end - start < w->cells.used)
      for (c = start; c < end; ++c) {
        cell = cells_find (&w->cells, wi, c);
        if (cell)
          forget_cell (w, cell, &freed, &n);
      }
    else
      for (i = 0; i < w->cells.nr; ++i)
        if (w->cells.all[i].image == wi && w->cells.all[i].cluster >= start &&
            w->cells.all[i].cluster < end)
          forget_cell (w, &w->cells.all[i], &freed, &n);
    unused = writeback_less (wi, n);
  }
  accounting_give_back (wi->snap, freed);
  snapshot_unref (unused);      /* not the last: who punches has one */
}

static int
buffered_punch (struct image *image, uint64_t offset, uint64_t count,
                struct error *e)
{
  struct writeback_image *wi = to_writeback (image);
  struct image *target = target_of (image);
  const uint64_t cs = wi->snap->view.cluster_size;

  if (!is_drained (wi))
    forget_range (wi, offset / cs, (offset + count + cs - 1) / cs);
  return target->ops->punch (target, offset, count, e);
}

static int
buffered_check (struct image *image, struct error *e)
{
  struct image *target = target_of (image);

  return target->ops->check (target, e);
}

/* Fails if the server stops before all is in the target. */
static int
buffered_flush (struct image *image, struct error *e)
{
  struct writeback_image *wi = to_writeback (image);
  struct image *target = target_of (image);
  struct writeback *w = wi->writeback;

  if (!is_drained (wi)) {
    LOCK_FOR_SCOPE (&w->lock);
    while (!is_drained (wi) && !w->stop)
      pthread_cond_wait (&w->drained, &w->lock);
    if (!is_drained (wi))
      return error_set (e, ESHUTDOWN, "%s: the server stops",
                        wi->snap->fixed.target);
  }
  return target->ops->flush (target, e);
}

/* The target is the snapshot's, and is closed by itself. */
static void
buffered_close (struct image *image)
{
  free (image);
}

static const struct image_ops buffered_ops = {
  .pread = buffered_pread,
  .pwrite = buffered_pwrite,
  .zero = buffered_zero,
  .extent = buffered_extent,
  .verify = buffered_verify,
  .punch = buffered_punch,
  .check = buffered_check,
  .flush = buffered_flush,
  .close = buffered_close,
};

struct writeback_image *
writeback_image_new (struct writeback *w, struct snapshot *snap)
{
  struct writeback_image *wi = calloc (1, sizeof *wi);

  if (wi == NULL)
    return NULL;
  wi->image.ops = &buffered_ops;
  wi->image.reads_zero = snap->target->reads_zero;
  wi->writeback = w;
  wi->snap = snap;
  wi->threads_max = snap->fixed.target_kind == CBW_TARGET_NBD ?
    DRAIN_THREADS_NBD : DRAIN_THREADS_FILE;
  return wi;
}
