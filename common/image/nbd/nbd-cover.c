/* SPDX-License-Identifier: BSD-3-Clause */

/* Counts the bytes that the reply to a read brings: see nbd-cover.h.  libnbd's
 * callback for each chunk, in nbd-conn.c, adds the chunk here.
 */

#include <config.h>

#include <string.h>

#include "image/nbd/nbd-cover.h"

bool
nbd_cover_add (struct nbd_cover *c, uint64_t offset, uint64_t count)
{
  const uint64_t end = offset + count;
  struct nbd_part *p = c->parts;
  bool left, right;
  unsigned i = c->nr;

  if (count == 0 || end < offset || offset < c->want.start ||
      end > c->want.end)
    return false;
  /* Servers send in ascending order, so look from the end. */
  while (i > 0 && p[i - 1].start >= offset)
    i--;
  if ((i > 0 && p[i - 1].end > offset) || (i < c->nr && p[i].start < end))
    return false;

  left = i > 0 && p[i - 1].end == offset;
  right = i < c->nr && p[i].start == end;
  if (left && right) {
    p[i - 1].end = p[i].end;
    memmove (&p[i], &p[i + 1], (c->nr - i - 1) * sizeof *p);
    c->nr--;
  }
  else if (left)
    p[i - 1].end = end;
  else if (right)
    p[i].start = offset;
  else {
    if (c->nr == NBD_COVER_PARTS)
      return false;
    memmove (&p[i + 1], &p[i], (c->nr - i) * sizeof *p);
    p[i] = (struct nbd_part) { offset, end };
    c->nr++;
  }
  return true;
}
