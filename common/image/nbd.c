/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "iszero.h"
#include "nbd-keeper.h"
#include "nbd.h"
#include "rounding.h"

/* Zeroes and trims are sent in pieces of this many bytes: NBD's lengths
 * are 32 bits wide, and each should come to an end.
 */
#define SPAN_MAX (UINT64_C (1) << 30)

/* A range in one request of block status, rounded for any block size. */
#define STATUS_MAX ((UINT64_C (4) << 30) - 65536)

/* What is read of an export to see if it holds data: so many bytes of so
 * many extents.
 */
#define SAMPLE_SIZE (UINT64_C (1) << 20)
#define SAMPLES_MAX 64

/* Zeroes where the server has no command for them. */
#define ZEROES_MAX (UINT64_C (1) << 20)

/* The link, while a request uses it. */
struct nbd_use {
  struct nbd_image *nbd;
  struct nbd_link *link;
};

static void
cleanup_put (struct nbd_use *use)
{
  if (use->link)
    nbd_keeper_put (use->nbd, use->link);
}

/* Have the link in the scope, or return -1 from it. */
#define USE_LINK(use, image, e)                                         \
  __attribute__ ((cleanup (cleanup_put)))                               \
  struct nbd_use use = {                                                \
    .nbd = (struct nbd_image *) image,                                  \
    .link = nbd_keeper_get ((struct nbd_image *) image, e),             \
  };                                                                    \
  if (use.link == NULL)                                                 \
    return -1

/* A request failed.  NBD's errors other than "no space" are of no use to
 * a guest: some would tell it something else than that its disk failed.
 */
static int
failed (const struct nbd_image *nbd, int err, const char *what,
        uint64_t count, uint64_t offset, struct error *e)
{
  char text[128];

  return error_set (e, err == ENOSPC ? ENOSPC : EIO,
                    "%s: cannot %s %" PRIu64 " bytes at offset %" PRIu64
                    ": %s", nbd->name, what, count, offset,
                    err == ENOTCONN ?
                    "the connection to the server was lost" :
                    strerror_r (err, text, sizeof text));
}

/* Read a range that is in whole blocks, in requests as large as the
 * server takes.
 */
static int
read_blocks (const struct nbd_use *use, char *buf, uint64_t count,
             uint64_t offset, struct error *e)
{
  uint64_t n;
  int r;

  for (; count > 0; count -= n, buf += n, offset += n) {
    n = min_u64 (count, use->link->info.maximum_payload);
    r = nbd_conn_pread (nbd_link_pick (use->link), buf, n, offset);
    if (r != 0)
      return failed (use->nbd, r, "read", n, offset, e);
  }
  return 0;
}

static int
image_nbd_pread (struct image *image, void *buf, size_t count,
                 uint64_t offset, struct error *e)
{
  CLEANUP_FREE char *whole = NULL;
  uint64_t block, from, to;

  USE_LINK (use, image, e);
  block = use.link->info.minimum_block;
  from = round_down (offset, block);
  to = round_up (offset + count, block);
  if (from == offset && to == offset + count)
    return read_blocks (&use, buf, count, offset, e);

  whole = malloc (to - from);
  if (whole == NULL)
    return error_set_errno (e, ENOMEM, "%s", use.nbd->name);
  if (read_blocks (&use, whole, to - from, from, e) == -1)
    return -1;
  memcpy (buf, whole + (offset - from), count);
  return 0;
}

static int
write_blocks (const struct nbd_use *use, const char *buf, uint64_t count,
              uint64_t offset, struct error *e)
{
  uint64_t n;
  int r;

  for (; count > 0; count -= n, buf += n, offset += n) {
    n = min_u64 (count, use->link->info.maximum_payload);
    r = nbd_conn_pwrite (nbd_link_pick (use->link), buf, n, offset);
    if (r != 0)
      return failed (use->nbd, r, "write", n, offset, e);
  }
  return 0;
}

static int
check_writable (const struct nbd_image *nbd, struct error *e)
{
  if (nbd->flags & IMAGE_NBD_READONLY)
    return error_set (e, EPERM, "%s: was opened for reading", nbd->name);
  return 0;
}

static int
image_nbd_pwrite (struct image *image, const void *buf, size_t count,
                  uint64_t offset, struct error *e)
{
  CLEANUP_FREE char *whole = NULL;
  uint64_t rest;

  if (check_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  USE_LINK (use, image, e);
  /* A disk's last cluster need not be whole blocks: zeroes behind it. */
  rest = count & (use.link->info.minimum_block - 1);
  if (rest > 0) {
    whole = calloc (1, count - rest + use.link->info.minimum_block);
    if (whole == NULL)
      return error_set_errno (e, ENOMEM, "%s", use.nbd->name);
    memcpy (whole, buf, count);
  }
  if (write_blocks (&use, whole ? whole : buf,
                    round_up (count, use.link->info.minimum_block), offset,
                    e) == -1)
    return -1;
  nbd_keeper_wrote (use.nbd, buf, count, offset);
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
    if (write_blocks (use, zeroes, n, offset, e) == -1)
      return -1;
  }
  return 0;
}

static int
image_nbd_zero (struct image *image, uint64_t offset, uint64_t count,
                struct error *e)
{
  uint64_t n;
  int r;

  if (check_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  USE_LINK (use, image, e);
  for (; count > 0; count -= min_u64 (count, n), offset += n) {
    n = round_up (min_u64 (count, SPAN_MAX), use.link->info.minimum_block);
    r = EOPNOTSUPP;
    if (use.link->info.can_zero)
      r = nbd_conn_zero (nbd_link_pick (use.link), n, offset);
    if (r == EOPNOTSUPP) {
      if (write_zeroes (&use, n, offset, e) == -1)
        return -1;
    }
    else if (r != 0)
      return failed (use.nbd, r, "zero", n, offset, e);
    nbd_keeper_wrote (use.nbd, NULL, n, offset);
  }
  return 0;
}

static int
image_nbd_extent (struct image *image, uint64_t offset, uint64_t end,
                  uint64_t *next, bool *data, struct error *e)
{
  uint64_t block, from, count, length;
  bool zero;
  int r;

  *next = end;
  *data = true;
  USE_LINK (use, image, e);
  if (!use.link->info.can_extents)
    return 0;
  block = use.link->info.minimum_block;
  from = round_down (offset, block);
  count = min_u64 (round_up (end, block) - from, STATUS_MAX);
  r = nbd_conn_extent (nbd_link_pick (use.link), count, from, &length, &zero);
  if (r != 0)
    return failed (use.nbd, r, "ask for the extents of", count, from, e);
  *data = !zero;
  if (from + length > offset)   /* else the server has smaller blocks */
    *next = min_u64 (from + length, end);
  else
    *data = true;
  return 0;
}

static int
image_nbd_punch (struct image *image, uint64_t offset, uint64_t count,
                 struct error *e)
{
  uint64_t block, end, n;
  int r;

  if (check_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  USE_LINK (use, image, e);
  nbd_keeper_forget (use.nbd, offset, count);
  block = use.link->info.minimum_block;
  end = round_down (offset + count, block);
  for (offset = round_up (offset, block);
       use.link->info.can_trim && offset < end; offset += n) {
    n = min_u64 (end - offset, SPAN_MAX);
    r = nbd_conn_trim (nbd_link_pick (use.link), n, offset);
    if (r != 0)
      return failed (use.nbd, r, "trim", n, offset, e);
  }
  return 0;
}

static int
image_nbd_check (struct image *image, struct error *e)
{
  return nbd_keeper_check ((struct nbd_image *) image, e);
}

static int
image_nbd_flush (struct image *image, struct error *e)
{
  return nbd_keeper_flush ((struct nbd_image *) image, e);
}

static void
free_image (struct nbd_image *nbd)
{
  nbd_address_free (&nbd->address);
  free (nbd->name);
  free (nbd);
}

static void
image_nbd_close (struct image *image)
{
  struct nbd_image *nbd = (struct nbd_image *) image;

  nbd_keeper_stop (nbd);
  free_image (nbd);
}

static const struct image_ops nbd_ops = {
  .pread = image_nbd_pread,
  .pwrite = image_nbd_pwrite,
  .zero = image_nbd_zero,
  .extent = image_nbd_extent,
  .punch = image_nbd_punch,
  .check = image_nbd_check,
  .flush = image_nbd_flush,
  .close = image_nbd_close,
};

/* Make an image of *address, which is taken over whatever comes of it. */
static struct nbd_image *
new_image (struct nbd_address *address, const char *name, unsigned flags,
           struct error *e)
{
  struct nbd_image *nbd = calloc (1, sizeof *nbd);

  if (nbd == NULL || (nbd->name = strdup (name)) == NULL) {
    error_set_errno (e, ENOMEM, "%s", name);
    nbd_address_free (address);
    free (nbd);
    return NULL;
  }
  nbd->image.ops = &nbd_ops;
  nbd->image.reads_zero = flags & IMAGE_NBD_ZEROES;
  nbd->address = *address;
  nbd->flags = flags;
  return nbd;
}

static struct image *
start_image (struct nbd_image *nbd, uint64_t *size, struct error *e)
{
  if (nbd == NULL)
    return NULL;
  if (nbd_keeper_start (nbd, e) == -1) {
    free_image (nbd);
    return NULL;
  }
  *size = nbd->size;
  return &nbd->image;
}

struct image *
image_nbd_open (const char *target, unsigned flags, uint64_t *size,
                struct error *e)
{
  struct nbd_address address;

  if (nbd_address_parse (&address, target, e) == -1)
    return NULL;
  return start_image (new_image (&address, target, flags, e), size, e);
}

struct image *
image_nbd_spawn (char *const argv[], unsigned flags, uint64_t *size,
                 struct error *e)
{
  struct nbd_address address;

  if (nbd_address_argv (&address, argv, e) == -1)
    return NULL;
  return start_image (new_image (&address, argv[0], flags, e), size, e);
}

struct image *
image_nbd_reopen (const char *target, unsigned flags, uint64_t size,
                  uint32_t block, _Atomic (uint64_t) *words,
                  struct error *e)
{
  struct nbd_address address;
  struct nbd_image *nbd;

  if (nbd_address_parse (&address, target, e) == -1)
    return NULL;
  nbd = new_image (&address, target, flags, e);
  if (nbd) {
    nbd->again = true;
    nbd->size = size;
    nbd->block = block;
    nbd->words = words;
  }
  return start_image (nbd, &size, e);
}

void
image_nbd_remember (struct image *image, _Atomic (uint64_t) *words)
{
  ((struct nbd_image *) image)->log.words = words;
}

/* How far zeroes go from offset on, as the server says; 0 if it does not. */
static int
ask_zeroes (const struct nbd_use *use, uint64_t count, uint64_t offset,
            uint64_t *zeroes, uint64_t *length, struct error *e)
{
  bool zero;
  int r;

  *zeroes = 0;
  *length = count;
  if (!use->link->info.can_extents)
    return 0;
  r = nbd_conn_extent (nbd_link_pick (use->link), min_u64 (count, STATUS_MAX),
                       offset, length, &zero);
  if (r != 0)
    return failed (use->nbd, r, "ask for the extents of", count, offset, e);
  if (zero)
    *zeroes = *length;
  return 0;
}

int
image_nbd_content (struct image *image, uint64_t size, struct error *e)
{
  CLEANUP_FREE char *sample = malloc (SAMPLE_SIZE);
  enum image_nbd_content content = IMAGE_NBD_ZERO;
  uint64_t offset, length, zeroes, n;
  unsigned samples = 0;

  if (sample == NULL)
    return error_set_errno (e, ENOMEM, "sample");
  USE_LINK (use, image, e);
  size = round_up (size, use.link->info.minimum_block);
  for (offset = 0; offset < size && samples < SAMPLES_MAX; offset += length) {
    if (ask_zeroes (&use, size - offset, offset, &zeroes, &length, e) == -1)
      return -1;
    if (zeroes > 0)
      continue;
    n = min_u64 (length, SAMPLE_SIZE);
    if (read_blocks (&use, sample, n, offset, e) == -1)
      return -1;
    if (!is_zero (sample, n))
      return IMAGE_NBD_DATA;
    content = IMAGE_NBD_UNKNOWN;
    samples++;
  }
  return content;
}

void
image_nbd_set_zeroes (struct image *image)
{
  image->reads_zero = true;
}

uint32_t
image_nbd_block_size (struct image *image)
{
  return ((struct nbd_image *) image)->block;
}
