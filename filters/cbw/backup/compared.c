/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading clusters from two images, to compare them: compared.h.  A fill thread
 * does, with a claim on them.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "backup/compared.h"

enum transfer_result
compared_read (struct compared *b, const struct snapshot *snap,
               struct image *from, uint64_t start, uint64_t end,
               struct error *e)
{
  const uint64_t offset = start * snap->view.cluster_size;
  const uint64_t n = snapshot_bytes (snap, start, end);
  struct image *target = snap->target;

  *b = (struct compared) {
    .snap = snap, .start = start, .disk = malloc (n), .target = malloc (n),
  };
  if (b->disk == NULL || b->target == NULL) {
    error_set_errno (e, ENOMEM, "comparing with the target");
    return TRANSFER_NO_MEMORY;
  }
  if (from->ops->pread (from, b->disk, n, offset, e) == -1 ||
      image_verify (from, e) == -1)
    return TRANSFER_READ_FAILED;
  if (target->ops->pread (target, b->target, n, offset, e) == -1 ||
      image_verify (target, e) == -1)
    return TRANSFER_WRITE_FAILED;
  return TRANSFER_DONE;
}

static bool
is_hole (struct image *image, uint64_t offset, uint64_t end)
{
  struct error ignored;
  uint64_t next;
  bool data;

  return image->ops->extent (image, offset, end, &next, &data,
                             &ignored) == 0 &&
    image_verify (image, &ignored) == 0 && !data && next == end;
}

bool
compared_are_zeroes (const struct snapshot *snap, struct image *from,
                     uint64_t start, uint64_t end)
{
  const uint64_t offset = start * snap->view.cluster_size;
  const uint64_t to = offset + snapshot_bytes (snap, start, end);

  return is_hole (from, offset, to) && is_hole (snap->target, offset, to);
}

void
compared_free (struct compared *b)
{
  free (b->disk);
  free (b->target);
}
