/* SPDX-License-Identifier: BSD-3-Clause */

/* Emptying an NBD export: whatever its server can do, it holds no data
 * afterwards, and no more is sent than is needed for that.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>

#include "fake-nbd.h"
#include "image/nbd/nbd.h"
#include "nbd-env.h"
#include "unit.h"
#include "utils/iszero.h"

#define PART (FAKE_SIZE / 4)

/* Empty the whole, which holds data. */
static void
empty (struct image *image)
{
  struct error e;

  CHECK_EQ (image_nbd_content (image, FAKE_SIZE, &e), IMAGE_NBD_DATA);
  if (image_nbd_empty (image, FAKE_SIZE, &e) == -1)
    unit_fail (__FILE__, __LINE__, e.msg);
  CHECK (image_nbd_content (image, FAKE_SIZE, &e) != IMAGE_NBD_DATA);
  image->ops->close (image);
}

/* Half of the store has data, and the server knows, as long as it does not
 * call all data.  Requests to zero or to trim do as "flags" say.
 */
static _Atomic (unsigned) fast, declined;
static _Atomic (bool) trims, declines, knows, crumbs;

static void
serve (struct fake_request *rq)
{
  unsigned char *store = rq->fake->store;

  if (rq->type == FAKE_STATUS && crumbs)
    fake_status (rq, 2, (const uint32_t[]) { 1, 3, 1, 0 });
  else if (rq->type == FAKE_STATUS && knows) {
    uint32_t n = 512;
    const bool zero = is_zero (store + rq->offset, n);

    while (n < rq->count && is_zero (store + rq->offset + n, 512) == zero)
      n += 512;
    fake_status (rq, 1, (const uint32_t[]) { n, zero ? 3 : 0 });
  }
  else if (rq->type == FAKE_TRIM && trims) {
    memset (store + rq->offset, 0, rq->count);
    fake_simple (rq, 0);
  }
  else if (rq->type == FAKE_ZERO && (rq->flags & FAKE_FLAG_FAST) && declines) {
    atomic_fetch_add (&declined, 1);
    fake_simple (rq, 95);       /* NBD_ENOTSUP */
  }
  else {
    if (rq->type == FAKE_ZERO && (rq->flags & FAKE_FLAG_FAST))
      atomic_fetch_add (&fast, 1);
    fake_serve (rq);
  }
}

static unsigned missing;

static void
configure (struct fake *f)
{
  f->flags = FAKE_CAN_ALL & ~missing;
  f->no_status = missing == (FAKE_CAN_FAST_ZERO | FAKE_CAN_ZERO |
                             FAKE_CAN_TRIM);
  memset (f->store + PART, 0, PART);
  memset (f->store + 3 * PART, 0, PART);
}

static struct fake *
begin (unsigned without)
{
  missing = without;
  fast = declined = 0;
  trims = declines = knows = crumbs = false;
  return fake_start (serve, configure);
}

static void
end (struct fake *f)
{
  CHECK (is_zero (f->store, FAKE_SIZE));
  fake_stop (f);
}

static void
test_trim (void)
{
  struct fake *f = begin (0);

  trims = knows = true;
  empty (nbd_env_open (0));
  CHECK_EQ (f->requests[FAKE_TRIM], 1);
  CHECK_EQ (f->requests[FAKE_ZERO] + f->requests[FAKE_WRITE], 0);
  end (f);
}

/* It has trimmed, but says of all that it may be data: a look tells. */
static void
test_trim_unseen (void)
{
  struct fake *f = begin (FAKE_CAN_FAST_ZERO);

  trims = true;
  empty (nbd_env_open (0));
  CHECK_EQ (f->requests[FAKE_ZERO] + f->requests[FAKE_WRITE], 0);
  end (f);
}

/* To trim does nothing: zeroes are written, in the fast way. */
static void
test_fast_zero (void)
{
  struct fake *f = begin (0);

  knows = true;
  empty (nbd_env_open (0));
  CHECK_EQ (fast, 2);
  CHECK_EQ (f->requests[FAKE_ZERO], 2);
  CHECK_EQ (f->requests[FAKE_WRITE], 0);
  end (f);
}

/* The server has said that it has a fast way, but has none here. */
static void
test_fast_zero_declined (void)
{
  struct fake *f = begin (0);

  knows = declines = true;
  empty (nbd_env_open (0));
  CHECK_EQ (declined, 1);       /* it is believed */
  CHECK_EQ (f->requests[FAKE_ZERO], 3);
  CHECK_EQ (f->requests[FAKE_WRITE], 0);
  end (f);
}

static void
test_zero (void)
{
  struct fake *f = begin (FAKE_CAN_FAST_ZERO | FAKE_CAN_TRIM);

  knows = true;
  empty (nbd_env_open (0));
  CHECK_EQ (f->requests[FAKE_TRIM], 0);
  CHECK_EQ (f->requests[FAKE_ZERO], 2);
  CHECK_EQ (f->requests[FAKE_WRITE], 0);
  end (f);
}

/* It can do nothing but read and write, and has no block status. */
static void
test_write (void)
{
  struct fake *f = begin (FAKE_CAN_FAST_ZERO | FAKE_CAN_ZERO | FAKE_CAN_TRIM);

  empty (nbd_env_open (0));
  CHECK_EQ (f->requests[FAKE_TRIM] + f->requests[FAKE_ZERO], 0);
  CHECK (f->requests[FAKE_WRITE] > 0);
  end (f);
}

/* It has extents of single bytes: they take no request each. */
static void
test_crumbs (void)
{
  struct fake *f = begin (0);

  crumbs = true;
  empty (nbd_env_open (0));
  CHECK_EQ (f->requests[FAKE_ZERO], 8);
  end (f);
}

static void
test_refused (void)
{
  struct fake *f = begin (0);
  struct image *image = nbd_env_open (IMAGE_NBD_READONLY);
  struct error e;

  CHECK (image_nbd_empty (image, FAKE_SIZE, &e) == -1);
  CHECK_ERROR (&e, EPERM, "was opened for reading");
  CHECK_EQ (f->requests[FAKE_TRIM] + f->requests[FAKE_ZERO], 0);
  image->ops->close (image);
  fake_stop (f);
}

/* It is an end of what was written, too: nobody looks for that later. */
static void
test_forgotten (void)
{
  static _Atomic (uint64_t) words[IMAGE_NBD_WORDS];
  struct fake *f = begin (FAKE_CAN_TRIM);
  struct image *image = nbd_env_open (0);
  struct error e;
  unsigned i;

  image_nbd_remember (image, words);
  CHECK (image->ops->pwrite (image, "x", 1, 4711, &e) == 0);
  knows = true;
  empty (image);
  for (i = 0; i < IMAGE_NBD_WORDS; i += 3)
    CHECK_EQ (words[i + 1], 0);
  end (f);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_trim);
  RUN (test_trim_unseen);
  RUN (test_fast_zero);
  RUN (test_fast_zero_declined);
  RUN (test_zero);
  RUN (test_write);
  RUN (test_crumbs);
  RUN (test_refused);
  RUN (test_forgotten);
  nbd_env_end ();
  return unit_end ();
}
