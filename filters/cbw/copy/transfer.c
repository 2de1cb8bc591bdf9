/* SPDX-License-Identifier: BSD-3-Clause */

/* Transfers read old data, decide, and write it; transfer.h names the callers.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "copy/transfer.h"
#include "snapshot/accounting.h"
#include "utils/cleanup.h"
#include "utils/iszero.h"
#include "utils/rounding.h"

struct transfer_buffer {
  struct transfer_buffer *next;
};

uint64_t
piece_clusters (const struct snapshot *snap)
{
  return max_u64 (PIECE_SIZE / snap->view.cluster_size, 1);
}

void
transfer_buffers_init (struct transfer_buffers *buffers)
{
  pthread_mutex_init (&buffers->lock, NULL);
  buffers->free = NULL;
}

void
transfer_buffers_destroy (struct transfer_buffers *buffers)
{
  struct transfer_buffer *buffer;

  while ((buffer = buffers->free) != NULL) {
    buffers->free = buffer->next;
    free (buffer);
  }
  pthread_mutex_destroy (&buffers->lock);
}

/* A buffer for one piece, the one used last if there is one.  All snapshots
 * have clusters of one size.
 */
static void *
buffer_get (struct transfer_buffers *buffers, const struct snapshot *snap)
{
  struct transfer_buffer *buffer;
  void *p;

  {
    LOCK_FOR_SCOPE (&buffers->lock);
    buffer = buffers->free;
    if (buffer)
      buffers->free = buffer->next;
  }
  if (buffer == NULL &&
      posix_memalign (&p, 4096,
                      piece_clusters (snap) * snap->view.cluster_size) == 0)
    buffer = p;
  return buffer;
}

static void
buffer_put (struct transfer_buffers *buffers, void *buf)
{
  struct transfer_buffer *buffer = buf;

  LOCK_FOR_SCOPE (&buffers->lock);
  buffer->next = buffers->free;
  buffers->free = buffer;
}

/* Write a run of clusters of one kind.  Those of zeroes hold nothing. */
static int
write_run (struct transfer *t, const unsigned char *buf, uint64_t offset,
           uint64_t count, bool zero, struct error *e)
{
  if (zero)
    return image_zero (t->to, offset, count, e);                    /* W2 */
  if (accounting_hold (t->snap, count, e) == -1)
    return -1;
  t->held += count;
  return t->to->ops->pwrite (t->to, buf, count, offset, e);         /* W2 */
}

/* Write all: neighbouring clusters in one go, and those of zeroes as such. */
static int
write_runs (struct transfer *t, const unsigned char *buf, struct error *e)
{
  const uint64_t cs = t->snap->view.cluster_size;
  const uint64_t offset = transfer_offset (t), len = transfer_bytes (t);
  bool zero = is_zero (buf, min_u64 (cs, len)), next = zero;
  uint64_t start = 0, end;      /* a run of one kind, and then the next */

  for (; start < len; start = end, zero = next) {
    for (end = min_u64 (start + cs, len); end < len && next == zero;
         end = min_u64 (end + cs, len)) {
      next = is_zero (buf + end, min_u64 (cs, len - end));
      if (next != zero)
        break;
    }
    if (write_run (t, buf + start, offset + start, end - start, zero, e) == -1)
      return -1;
  }
  return 0;
}

static enum transfer_result
write_data (struct transfer *t, const unsigned char *buf, struct error *e)
{
  if (write_runs (t, buf, e) == 0)
    return TRANSFER_DONE;
  accounting_give_back (t->snap, t->held); /* it is to be written again */
  t->held = 0;
  return TRANSFER_WRITE_FAILED;
}

static enum transfer_result
read_and_write (struct transfer *t, unsigned char *buf, struct error *e)
{
  if (t->from->ops->pread (t->from, buf, transfer_bytes (t),
                           transfer_offset (t), e) == -1 ||         /* W1 */
      image_verify (t->from, e) == -1)
    return TRANSFER_READ_FAILED;
  if (t->decide && !t->decide (t->of, t, buf))
    return TRANSFER_LEFT_OUT;
  return write_data (t, buf, e);
}

enum transfer_result
transfer_run (struct transfer_buffers *buffers, struct transfer *t,
              struct error *e)
{
  enum transfer_result r;
  unsigned char *buf;

  assert (t->start < t->end && t->end <= snapshot_clusters (t->snap));
  t->held = 0;
  if (t->hole)
    return image_zero (t->to, transfer_offset (t), transfer_bytes (t),
                       e) == 0 ? TRANSFER_DONE : TRANSFER_WRITE_FAILED;
  if (t->known)
    return write_data (t, t->known, e);

  assert (t->end - t->start <= piece_clusters (t->snap));
  buf = buffer_get (buffers, t->snap);
  if (buf == NULL) {
    error_set_errno (e, ENOMEM, "buffer for a copy");
    return TRANSFER_NO_MEMORY;
  }
  r = read_and_write (t, buf, e);
  buffer_put (buffers, buf);
  return r;
}

/* May done bits be set in this state?  A guest's copy is over before the
 * snapshot is hidden, but that of a backup's fill need not be.
 */
static bool
may_be_done (const struct snapshot *snap, const struct claim *mine)
{
  switch (snapshot_state (snap)) {
  case CBW_SNAPSHOT_LIVE:
  case CBW_SNAPSHOT_BROKEN:
    return mine != NULL;
  case CBW_SNAPSHOT_HIDDEN:
    return mine != NULL && snapshot_is_backup (snap);
  case CBW_SNAPSHOT_RESERVED:
    return mine == NULL;
  default:
    return false;
  }
}

void
transfer_set_done (const struct transfer *t, const struct claim *mine)
{
  assert (may_be_done (t->snap, mine));
  assert (mine == NULL || claim_covers (mine, t->start, t->end));
  assert (t->end <= snapshot_clusters (t->snap));
  bitmap_set (&t->snap->view.done, t->start, t->end);               /* W3 */
  accounting_done (t->snap, t->end - t->start, t->held);
}
