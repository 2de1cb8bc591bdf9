/* SPDX-License-Identifier: BSD-3-Clause */

/* What an export holds, and emptying it: a target must hold no data of
 * somebody's before, and when it is given back the next snapshot must find
 * none of ours.  So both look in the same way: where the server does not call
 * an extent zeroes, samples are read.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "image/nbd/nbd-keeper.h"
#include "image/nbd/nbd-range.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/iszero.h"
#include "utils/rounding.h"

/* What is read of an export to see if it holds data: so many bytes of so
 * many extents.
 */
#define SAMPLE_SIZE (UINT64_C (1) << 20)
#define SAMPLES_MAX 64

/* And how long that may take, however small the extents are. */
#define CONTENT_WAIT (120 * NS_PER_SEC)

/* When it is emptied, so many samples are read of an extent; and zeroes are
 * written in pieces of this many bytes where that may be slow.
 */
#define EMPTY_SAMPLES 16
#define EMPTY_PIECE (UINT64_C (32) << 20)

int
image_nbd_content (struct image *image, uint64_t size, struct error *e)
{
  const uint64_t until = now_monotonic_ns () + CONTENT_WAIT;
  CLEANUP_FREE char *sample = malloc (SAMPLE_SIZE);
  enum image_nbd_content content = IMAGE_NBD_ZERO;
  uint64_t offset, length, n;
  unsigned samples = 0;
  bool zero;

  if (sample == NULL)
    return error_set_errno (e, ENOMEM, "sample");
  NBD_USE_LINK (use, image, e);
  size = round_up (size, use.link->info.minimum_block);
  for (offset = 0; offset < size && samples < SAMPLES_MAX; offset += length) {
    if (now_monotonic_ns () >= until)
      return error_set (e, ETIMEDOUT, "%s: the server takes too long to say "
                        "what the export holds", use.nbd->name);
    if (nbd_range_extent (&use, size - offset, offset, &length, &zero,
                          e) == -1)
      return -1;
    if (zero)
      continue;
    n = min_u64 (length, SAMPLE_SIZE);
    if (nbd_range_read (&use, sample, n, offset, e) == -1)
      return -1;
    if (!is_zero (sample, n))
      return IMAGE_NBD_DATA;
    content = IMAGE_NBD_UNKNOWN;
    samples++;
  }
  return content;
}

/* ---- Emptying ---- */

struct emptying {
  const struct nbd_use *use;
  char *buf;                    /* SAMPLE_SIZE bytes */
  bool fast;                    /* the server may have a fast way */
};

/* Do count bytes, no more than a sample, read as zeroes? */
static int
reads_as_zeroes (const struct emptying *em, uint64_t offset, uint64_t count,
                 bool *zero, struct error *e)
{
  if (nbd_range_read (em->use, em->buf, count, offset, e) == -1)
    return -1;
  *zero = is_zero (em->buf, count);
  return 0;
}

/* Of a server that calls all data, whatever it has trimmed, a few samples
 * tell whether it has.
 */
static int
samples_are_zero (const struct emptying *em, uint64_t offset,
                  uint64_t length, bool *zero, struct error *e)
{
  const uint64_t step =
    round_up (max_u64 (length / EMPTY_SAMPLES, SAMPLE_SIZE), SAMPLE_SIZE);
  uint64_t at;

  *zero = true;
  for (at = 0; *zero && at < length; at += step)
    if (reads_as_zeroes (em, offset + at, min_u64 (length - at, SAMPLE_SIZE),
                         zero, e) == -1)
      return -1;
  return 0;
}

/* Zero up to length bytes in the server's fast way; *n is how many. */
static int
zero_fast (struct emptying *em, uint64_t offset, uint64_t length,
           uint64_t *n, struct error *e)
{
  for (*n = 0; em->fast && *n < length;) {
    const uint64_t count = min_u64 (length - *n, NBD_SPAN_MAX);

    if (nbd_range_zero_fast (em->use, count, offset + *n, &em->fast,
                             e) == -1)
      return -1;
    if (em->fast)
      *n += count;
  }
  return 0;
}

/* Zero it in the slow way, which need not be done where it has no data. */
static int
zero_slowly (const struct emptying *em, uint64_t offset, uint64_t length,
             struct error *e)
{
  const bool can_zero = em->use->link->info.can_zero;
  const uint64_t piece = can_zero ? EMPTY_PIECE : SAMPLE_SIZE;
  uint64_t n;
  bool zero = false;

  for (; length > 0; length -= n, offset += n) {
    n = min_u64 (length, piece);
    if (!can_zero && reads_as_zeroes (em, offset, n, &zero, e) == -1)
      return -1;
    if (!zero && nbd_range_zero (em->use, n, offset, e) == -1)
      return -1;
  }
  return 0;
}

/* The server calls this data. */
static int
empty_extent (struct emptying *em, uint64_t offset, uint64_t length,
              struct error *e)
{
  uint64_t n;
  bool zero;

  if (zero_fast (em, offset, length, &n, e) == -1)
    return -1;
  if (n == length)
    return 0;
  if (samples_are_zero (em, offset + n, length - n, &zero, e) == -1)
    return -1;
  return zero ? 0 : zero_slowly (em, offset + n, length - n, e);
}

int
image_nbd_empty (struct image *image, uint64_t size, struct error *e)
{
  CLEANUP_FREE char *buf = malloc (SAMPLE_SIZE);
  struct emptying em = { .buf = buf, .fast = true };
  uint64_t offset, length;
  bool zero;

  if (buf == NULL)
    return error_set_errno (e, ENOMEM, "sample");
  if (nbd_keeper_writable ((struct nbd_image *) image, e) == -1)
    return -1;
  /* Whatever comes of it: where data is left it is found below. */
  image->ops->punch (image, 0, size, e);

  NBD_USE_LINK (use, image, e);
  em.use = &use;
  size = round_up (size, use.link->info.minimum_block);
  for (offset = 0; offset < size; offset += length) {
    if (nbd_range_extent (&use, size - offset, offset, &length, &zero,
                          e) == -1)
      return -1;
    /* Nothing is needed any more, so a short one need not be told apart from
     * those after it.
     */
    if (length < SAMPLE_SIZE) {
      length = min_u64 (size - offset, SAMPLE_SIZE);
      zero = false;
    }
    if (!zero && empty_extent (&em, offset, length, e) == -1)
      return -1;
  }
  return 0;
}
