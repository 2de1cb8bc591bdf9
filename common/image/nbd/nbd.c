/* SPDX-License-Identifier: BSD-3-Clause */

/* The operations of an NBD image, and opening one: nbd.h. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/nbd/nbd-keeper.h"
#include "image/nbd/nbd-range.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

static int
image_nbd_pread (struct image *image, void *buf, size_t count,
                 uint64_t offset, struct error *e)
{
  CLEANUP_FREE char *whole = NULL;
  uint64_t block, from, to;

  NBD_USE_LINK (use, image, e);
  block = use.link->info.minimum_block;
  from = round_down (offset, block);
  to = round_up (offset + count, block);
  if (from == offset && to == offset + count)
    return nbd_range_read (&use, buf, count, offset, e);

  whole = malloc (to - from);
  if (whole == NULL)
    return error_set_errno (e, ENOMEM, "%s", use.nbd->name);
  if (nbd_range_read (&use, whole, to - from, from, e) == -1)
    return -1;
  memcpy (buf, whole + (offset - from), count);
  return 0;
}

static int
image_nbd_pwrite (struct image *image, const void *buf, size_t count,
                  uint64_t offset, struct error *e)
{
  CLEANUP_FREE char *whole = NULL;
  uint64_t rest;

  if (nbd_keeper_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  NBD_USE_LINK (use, image, e);
  /* A disk's last cluster need not be whole blocks: zeroes behind it. */
  rest = count & (use.link->info.minimum_block - 1);
  if (rest > 0) {
    whole = calloc (1, count - rest + use.link->info.minimum_block);
    if (whole == NULL)
      return error_set_errno (e, ENOMEM, "%s", use.nbd->name);
    memcpy (whole, buf, count);
  }
  if (nbd_range_write (&use, whole ? whole : buf,
                       round_up (count, use.link->info.minimum_block),
                       offset, e) == -1)
    return -1;
  nbd_keeper_wrote (use.nbd, buf, count, offset);
  return 0;
}

static int
image_nbd_zero (struct image *image, uint64_t offset, uint64_t count,
                struct error *e)
{
  uint64_t n;

  if (nbd_keeper_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  NBD_USE_LINK (use, image, e);
  for (; count > 0; count -= min_u64 (count, n), offset += n) {
    n = round_up (min_u64 (count, NBD_SPAN_MAX),
                  use.link->info.minimum_block);
    if (nbd_range_zero (&use, n, offset, e) == -1)
      return -1;
    nbd_keeper_wrote (use.nbd, NULL, n, offset);
  }
  return 0;
}

static int
image_nbd_extent (struct image *image, uint64_t offset, uint64_t end,
                  uint64_t *next, bool *data, struct error *e)
{
  uint64_t block, from, length;
  bool zero;

  NBD_USE_LINK (use, image, e);
  block = use.link->info.minimum_block;
  from = round_down (offset, block);
  if (nbd_range_extent (&use, round_up (end, block) - from, from, &length,
                        &zero, e) == -1)
    return -1;
  *next = end;
  *data = true;
  if (from + length > offset) { /* else the server has smaller blocks */
    *next = min_u64 (from + length, end);
    *data = !zero;
  }
  return 0;
}

static int
image_nbd_punch (struct image *image, uint64_t offset, uint64_t count,
                 struct error *e)
{
  uint64_t block, start, end;

  if (nbd_keeper_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  NBD_USE_LINK (use, image, e);
  nbd_keeper_forget (use.nbd, offset, count);
  block = use.link->info.minimum_block;
  start = round_up (offset, block);
  end = round_down (offset + count, block);
  return start < end ? nbd_range_trim (&use, end - start, start, e) : 0;
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
image_nbd_close (struct image *image)
{
  struct nbd_image *nbd = (struct nbd_image *) image;

  nbd_keeper_stop (nbd);
  if (nbd_keeper_join (nbd))
    nbd_keeper_free (nbd);
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
  if (nbd_keeper_init (nbd, e) == -1 || nbd_keeper_start (nbd, e) == -1) {
    image_nbd_close (&nbd->image);
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
