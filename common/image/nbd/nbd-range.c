/* SPDX-License-Identifier: BSD-3-Clause */

/* Ranges as requests: nbd-range.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/nbd/nbd-range.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* A range in one request of block status, rounded for any block size. */
#define STATUS_MAX ((UINT64_C (4) << 30) - 65536)

/* An extent that a server calls shorter than this, or than its blocks, counts
 * as data, of this length: so it takes no request for each byte to walk over
 * a range.  No known server has extents as short.
 */
#define EXTENT_MIN 512

/* Zeroes where the server has no command for them. */
#define ZEROES_MAX (UINT64_C (1) << 20)

/* A request failed.  NBD's errors other than "no space" are of no use to
 * a guest: some would tell it something else than that its disk failed.
 */
static int
failed (const struct nbd_use *use, int err, const char *what,
        uint64_t count, uint64_t offset, struct error *e)
{
  char text[NBD_CONN_TEXT_MAX];

  if (err == ENOTCONN || err == EPROTO)
    nbd_keeper_ended (use->nbd, use->link);
  if (use->nbd->interrupted)
    return nbd_keeper_stopping (use->nbd, e);
  return error_set (e, err == ENOSPC ? ENOSPC : EIO,
                    "%s: cannot %s %" PRIu64 " bytes at offset %" PRIu64
                    ": %s", use->nbd->name, what, count, offset,
                    nbd_conn_text (err, text));
}

int
nbd_range_read (const struct nbd_use *use, void *buf, uint64_t count,
                uint64_t offset, struct error *e)
{
  char *p = buf;
  uint64_t n;
  int r;

  for (; count > 0; count -= n, p += n, offset += n) {
    n = min_u64 (count, use->link->info.maximum_payload);
    r = nbd_conn_pread (nbd_link_pick (use->link), p, n, offset);
    if (r != 0)
      return failed (use, r, "read", n, offset, e);
  }
  return 0;
}

int
nbd_range_write (const struct nbd_use *use, const void *buf, uint64_t count,
                 uint64_t offset, struct error *e)
{
  const char *p = buf;
  uint64_t n;
  int r;

  for (; count > 0; count -= n, p += n, offset += n) {
    n = min_u64 (count, use->link->info.maximum_payload);
    r = nbd_conn_pwrite (nbd_link_pick (use->link), p, n, offset);
    if (r != 0)
      return failed (use, r, "write", n, offset, e);
  }
  return 0;
}

/* Zeroes as data. */
static int
write_zeroes (const struct nbd_use *use, uint64_t count, uint64_t offset,
              struct error *e)
{
  CLEANUP_FREE char *zeroes = calloc (1, min_u64 (count, ZEROES_MAX));
  uint64_t n;

  if (zeroes == NULL)
    return error_set_errno (e, ENOMEM, "%s", use->nbd->name);
  for (; count > 0; count -= n, offset += n) {
    n = min_u64 (count, ZEROES_MAX);
    if (nbd_range_write (use, zeroes, n, offset, e) == -1)
      return -1;
  }
  return 0;
}

int
nbd_range_zero (const struct nbd_use *use, uint64_t count, uint64_t offset,
                struct error *e)
{
  int r = EOPNOTSUPP;

  if (use->link->info.can_zero)
    r = nbd_conn_zero (nbd_link_pick (use->link), count, offset, false);
  if (r == EOPNOTSUPP)
    return write_zeroes (use, count, offset, e);
  return r == 0 ? 0 : failed (use, r, "zero", count, offset, e);
}

int
nbd_range_zero_fast (const struct nbd_use *use, uint64_t count,
                     uint64_t offset, bool *done, struct error *e)
{
  int r = EOPNOTSUPP;

  if (use->link->info.can_fast_zero)
    r = nbd_conn_zero (nbd_link_pick (use->link), count, offset, true);
  *done = r == 0;
  return r == 0 || r == EOPNOTSUPP ? 0 :
    failed (use, r, "zero", count, offset, e);
}

int
nbd_range_trim (const struct nbd_use *use, uint64_t count, uint64_t offset,
                struct error *e)
{
  uint64_t n;
  int r;

  for (; use->link->info.can_trim && count > 0; count -= n, offset += n) {
    n = min_u64 (count, NBD_SPAN_MAX);
    r = nbd_conn_trim (nbd_link_pick (use->link), n, offset);
    if (r != 0)
      return failed (use, r, "trim", n, offset, e);
  }
  return 0;
}

int
nbd_range_extent (const struct nbd_use *use, uint64_t count, uint64_t offset,
                  uint64_t *length, bool *zero, struct error *e)
{
  const uint64_t shortest = max_u64 (use->link->info.minimum_block,
                                     EXTENT_MIN);
  int r;

  *length = count;
  *zero = false;
  if (!use->link->info.can_extents)
    return 0;
  count = min_u64 (count, STATUS_MAX);
  r = nbd_conn_extent (nbd_link_pick (use->link), count, offset, length,
                       zero);
  if (r != 0)
    return failed (use, r, "ask for the extents of", count, offset, e);
  if (*length < min_u64 (count, shortest)) {
    *length = min_u64 (count, shortest);
    *zero = false;
  }
  else if (*length < count)
    *length = round_down (*length, use->link->info.minimum_block);
  return 0;
}
