/* SPDX-License-Identifier: BSD-3-Clause */

/* Which bytes of a read has the server's reply brought?
 *
 * A structured reply comes in chunks, each of which names its own range.
 * The chunks may come in any order, and nothing in the protocol's framing
 * keeps a server from sending too few, or one range twice.  So the ranges
 * are counted here: a reply is data when every byte came exactly once.
 *
 * Neighbouring ranges become one, so chunks in ascending or descending
 * order never need more than one part.  A reply in more than
 * NBD_COVER_PARTS parts at a time is refused: no known server sends one, and
 * the work for a chunk stays small whatever a server does.
 *
 * Not thread-safe: the thread that receives the reply adds, and the thread
 * that waits for it looks when the request is done.
 */

#ifndef CBW_NBD_COVER_H
#define CBW_NBD_COVER_H

#include <stdbool.h>
#include <stdint.h>

#define NBD_COVER_PARTS 64

/* A range of bytes of the export: start <= byte < end. */
struct nbd_part {
  uint64_t start, end;
};

struct nbd_cover {
  struct nbd_part want;
  unsigned nr;                  /* parts in use, in ascending order; no two
                                 * overlap or touch */
  struct nbd_part parts[NBD_COVER_PARTS];
};

/* Nothing has come yet of a request for count bytes at offset. */
static inline void
nbd_cover_init (struct nbd_cover *c, uint64_t offset, uint64_t count)
{
  c->want = (struct nbd_part) { offset, offset + count };
  c->nr = 0;
}

/* A chunk brought count bytes at offset.  Returns false if it breaks the
 * protocol: it is empty, lies outside the request, brings a byte for the
 * second time, or there are too many parts.
 */
extern bool nbd_cover_add (struct nbd_cover *c, uint64_t offset,
                           uint64_t count);

/* Has every byte come? */
static inline bool
nbd_cover_is_whole (const struct nbd_cover *c)
{
  return c->nr == 1 && c->parts[0].start == c->want.start &&
    c->parts[0].end == c->want.end;
}

#endif /* CBW_NBD_COVER_H */
