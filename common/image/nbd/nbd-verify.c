/* SPDX-License-Identifier: BSD-3-Clause */

/* Comparing a new connection's export with the image that it must be.  The
 * keeper calls this after each connect, before the link is used by others.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "image/nbd/nbd-verify.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

int
nbd_verify_info (const struct nbd_image *nbd, const struct nbd_link *link,
                 struct error *e)
{
  const struct nbd_info *info = &link->info;

  if (info->size < nbd->size) {
    error_set (e, ESTALE, "%s: the export has %" PRIu64 " bytes, and not the "
               "%" PRIu64 " that the snapshot needs", nbd->name, info->size,
               nbd->size);
    return -1;
  }
  if (info->read_only && !(nbd->flags & IMAGE_NBD_READONLY)) {
    error_set (e, EROFS, "%s: the server does not allow writing", nbd->name);
    return 0;
  }
  if (nbd->block != 0 && info->minimum_block > nbd->block) {
    error_set (e, EINVAL, "%s: the server's minimum block size was %" PRIu32
               " bytes and is %" PRIu32 " now", nbd->name, nbd->block,
               info->minimum_block);
    return 0;
  }
  return 1;
}

/* Is a record still true?  As above. */
static int
check_record (const struct nbd_image *nbd, const struct nbd_link *link,
              const struct nbd_record *r, char *buf, struct error *e)
{
  const uint64_t block = link->info.minimum_block;
  char text[NBD_CONN_TEXT_MAX];
  uint64_t offset, n;
  int err;

  for (offset = 0; offset < r->count; offset += n) {
    n = round_up (min_u64 (r->count - offset, link->info.maximum_payload),
                  block);
    err = nbd_conn_pread (link->conns[0], buf + offset, n,
                          r->offset + offset);
    if (err != 0) {
      error_set (e, EIO, "%s: cannot read what was written at offset %" PRIu64
                 ": %s", nbd->name, r->offset, nbd_conn_text (err, text));
      return 0;
    }
  }
  if (nbd_log_sum (buf, r->count) != r->sum) {
    error_set (e, ESTALE, "%s: the server is back, but not what was written "
               "at offset %" PRIu64 ": it was ended before it had saved it, "
               "or serves something else now", nbd->name, r->offset);
    return -1;
  }
  return 1;
}

int
nbd_verify_log (const struct nbd_image *nbd, const struct nbd_link *link,
                struct error *e)
{
  CLEANUP_FREE char *buf = NULL;
  const struct nbd_record *r;
  uint64_t i;
  int ok = 1;

  if (nbd->log.overflow) {
    error_set (e, ESTALE, "%s: the server was gone with too much that it had "
               "not flushed", nbd->name);
    return -1;
  }
  if (nbd->log.first == nbd->log.next)
    return 1;
  buf = malloc (NBD_RECORD_MAX + 65536); /* and a block */
  if (buf == NULL) {
    error_set_errno (e, ENOMEM, "%s", nbd->name);
    return 0;
  }
  /* Nobody adds to it: there is no link. */
  for (i = nbd->log.first; ok == 1 && i < nbd->log.next; ++i) {
    r = nbd_log_record (&nbd->log, i);
    if (r->count > 0)
      ok = check_record (nbd, link, r, buf, e);
  }
  return ok;
}
