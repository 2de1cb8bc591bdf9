/* SPDX-License-Identifier: BSD-3-Clause */

/* Replies to reads that break the protocol: nothing that a server sends is
 * taken for data unless every byte came once.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>

#include "fake-nbd.h"
#include "image/nbd/nbd-cover.h"
#include "image/nbd/nbd.h"
#include "nbd-env.h"
#include "unit.h"

#define COUNT UINT32_C (65536)

/* One bad read: it fails, and says why; the server is connected to anew. */
static void
bad_read (void (*handle) (struct fake_request *), const char *text)
{
  struct fake *f = fake_start (handle, NULL);
  struct image *image = nbd_env_open (0);
  unsigned char *buf = malloc (COUNT);
  struct error e;
  unsigned before;

  CHECK (image->ops->pread (image, buf, COUNT, COUNT, &e) == -1);
  CHECK_ERROR (&e, EIO, text);
  CHECK (strstr (e.msg, nbd_env.uri) != NULL);
  CHECK (image->ops->check (image, &e) == 0);
  before = f->connections;
  CHECK (image->ops->pread (image, buf, COUNT, COUNT, &e) == -1);
  while (f->connections == before) {
    image->ops->pread (image, buf, COUNT, COUNT, &e);
    unit_give_time ();
  }
  image->ops->close (image);
  fake_stop (f);
  free (buf);
}

/* Something else than a read is served as it should be. */
#define UNLESS_READ(rq)                                                 \
  if ((rq)->type != FAKE_READ) {                                        \
    fake_serve (rq);                                                    \
    return;                                                             \
  }

static void
short_by_half (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_data (rq, true, rq->offset, rq->count / 2);
}

static void
nothing (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_none (rq);
}

static void
hole_over_data (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_data (rq, false, rq->offset, rq->count);
  fake_hole (rq, true, rq->offset, rq->count);
}

/* As many bytes as were asked for, but one half of them twice. */
static void
half_twice (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_data (rq, false, rq->offset, rq->count / 2);
  fake_data (rq, true, rq->offset, rq->count / 2);
}

static void
overlap_by_one (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_data (rq, false, rq->offset + rq->count / 2, rq->count / 2);
  fake_hole (rq, true, rq->offset, rq->count / 2 + 1);
}

static void
without_the_last (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_hole (rq, false, rq->offset, 1);
  fake_data (rq, true, rq->offset + 1, rq->count - 2);
}

static void
beside_it (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_data (rq, true, rq->offset + rq->count, rq->count);
}

/* Chunks without end. */
static void
empty_chunks (struct fake_request *rq)
{
  unsigned i;

  UNLESS_READ (rq);
  for (i = 0; i < 1000; ++i)
    fake_data (rq, false, rq->offset, 0);
  fake_hang (rq);
}

static void
every_other_byte (struct fake_request *rq)
{
  uint32_t i;

  UNLESS_READ (rq);
  for (i = 0; i < 1000; i += 2)
    fake_data (rq, false, rq->offset + i, 1);
  fake_hang (rq);
}

static void
test_bad_reads (void)
{
  static const char text[] = "does not cover what it was asked for";

  bad_read (short_by_half, text);
  bad_read (nothing, text);
  bad_read (hole_over_data, text);
  bad_read (half_twice, text);
  bad_read (overlap_by_one, text);
  bad_read (without_the_last, text);
  bad_read (empty_chunks, text);
  bad_read (every_other_byte, text);
  bad_read (beside_it, "the connection to the server was lost");
}

/* Where some say that a hole is, there is one. */
static void
with_a_hole (struct fake *f)
{
  memset (f->store + COUNT, 0, 1000);
}

/* A reply may come in any pieces, in any order. */
static void
good_read (void (*handle) (struct fake_request *))
{
  struct fake *f = fake_start (handle, with_a_hole);
  struct image *image = nbd_env_open (0);
  unsigned char *buf = malloc (COUNT);
  struct error e;

  memset (buf, 0xee, COUNT);
  if (image->ops->pread (image, buf, COUNT, COUNT, &e) == -1)
    unit_fail (__FILE__, __LINE__, e.msg);
  CHECK (memcmp (buf, f->store + COUNT, COUNT) == 0);
  CHECK_EQ (f->connections, 1);
  image->ops->close (image);
  fake_stop (f);
  free (buf);
}

static void
byte_by_byte (struct fake_request *rq)
{
  uint32_t i;

  UNLESS_READ (rq);
  for (i = 0; i < rq->count; ++i)
    fake_data (rq, i == rq->count - 1, rq->offset + i, 1);
}

static void
backwards (struct fake_request *rq)
{
  uint32_t i;

  UNLESS_READ (rq);
  for (i = rq->count; i > 0; i -= 4096)
    fake_data (rq, i == 4096, rq->offset + i - 4096, 4096);
}

static void
even_then_odd (struct fake_request *rq)
{
  const uint32_t piece = 2048;
  uint32_t i;

  UNLESS_READ (rq);
  for (i = 0; i < rq->count; i += 2 * piece)
    fake_data (rq, false, rq->offset + i, piece);
  for (i = piece; i < rq->count; i += 2 * piece)
    fake_data (rq, i + piece == rq->count, rq->offset + i, piece);
}

static void
hole_and_data (struct fake_request *rq)
{
  UNLESS_READ (rq);
  fake_hole (rq, false, rq->offset, 1000);
  fake_data (rq, true, rq->offset + 1000, rq->count - 1000);
}

static void
test_good_reads (void)
{
  good_read (byte_by_byte);
  good_read (backwards);
  good_read (even_then_odd);
  good_read (hole_and_data);
}

/* Ranges in every order, against a map of bytes. */
static void
test_cover (void)
{
  uint64_t seed = 1, offset, count, i;
  struct nbd_cover c;
  bool map[96], fits;
  unsigned round, n, parts;

  for (round = 0; round < 20000; ++round) {
    nbd_cover_init (&c, 1000, sizeof map);
    memset (map, 0, sizeof map);
    for (n = 0; n < 60; ++n) {
      offset = 998 + unit_random (&seed) % (sizeof map + 2);
      count = unit_random (&seed) % 6;
      fits = count > 0 && offset >= 1000 &&
        offset + count <= 1000 + sizeof map;
      for (i = 0; fits && i < count; ++i)
        fits = !map[offset - 1000 + i];
      CHECK_EQ (nbd_cover_add (&c, offset, count), fits);
      if (fits)
        memset (map + offset - 1000, 1, count);
      for (i = parts = 0; i < sizeof map; ++i)
        parts += map[i] && (i == 0 || !map[i - 1]);
      CHECK_EQ (c.nr, parts);
      CHECK_EQ (nbd_cover_is_whole (&c),
                parts == 1 && memchr (map, 0, sizeof map) == NULL);
    }
  }
  nbd_cover_init (&c, 0, UINT64_C (1) << 32);
  CHECK (!nbd_cover_add (&c, 8, UINT64_MAX - 4));
}

/* What is read to see whether a server has kept all, or holds data. */
static void
test_bad_checks (void)
{
  _Atomic (uint64_t) words[IMAGE_NBD_WORDS] = { 0 };
  struct fake *f = fake_start (NULL, NULL);
  struct image *image = nbd_env_open (0);
  unsigned char byte = 1;
  struct error e;
  unsigned i;

  image_nbd_remember (image, words);
  CHECK (image->ops->pwrite (image, &byte, 1, 4711, &e) == 0);
  image->ops->close (image);
  fake_stop (f);

  f = fake_start (nothing, NULL);
  image = image_nbd_reopen (nbd_env.uri, 0, FAKE_SIZE, 4096, words, &e);
  CHECK (image != NULL);        /* it may be another one later */
  CHECK (f->requests[FAKE_READ] > 0);
  for (i = 0; i < 10; ++i) {
    CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
    CHECK_ERROR (&e, EIO, "does not cover what it was asked for");
    CHECK (image->ops->check (image, &e) == 0);
  }
  image->ops->close (image);

  image = nbd_env_open (0);
  CHECK_EQ (image_nbd_content (image, FAKE_SIZE, &e), -1);
  CHECK_ERROR (&e, EIO, "does not cover what it was asked for");
  image->ops->close (image);
  fake_stop (f);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_cover);
  RUN (test_bad_reads);
  RUN (test_good_reads);
  RUN (test_bad_checks);
  nbd_env_end ();
  return unit_end ();
}
