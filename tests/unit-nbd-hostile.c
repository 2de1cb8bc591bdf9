/* SPDX-License-Identifier: BSD-3-Clause */

/* NBD servers that break the protocol, other than in replies to reads
 * (unit-nbd-reads.c): what they say of the export makes no sense, or a reply
 * never comes.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fake-nbd.h"
#include "image/nbd/nbd-conn.h"
#include "image/nbd/nbd.h"
#include "nbd-env.h"
#include "unit.h"
#include "utils/clock.h"

#define COUNT UINT32_C (65536)

/* ---- Block status ---- */

static void
no_extent (struct fake_request *rq)
{
  if (rq->type == FAKE_STATUS)
    fake_none (rq);
  else
    fake_serve (rq);
}

static void
extents_of_nothing (struct fake_request *rq)
{
  if (rq->type == FAKE_STATUS)
    fake_status (rq, 4, (const uint32_t[]) { 0, 0, 0, 3, 0, 0, 0, 1 });
  else
    fake_serve (rq);
}

static void
single_bytes (struct fake_request *rq)
{
  if (rq->type == FAKE_STATUS)
    fake_status (rq, 2, (const uint32_t[]) {
        1, rq->offset % 2 ? 3 : 0, 1, rq->offset % 2 ? 0 : 3
      });
  else
    fake_serve (rq);
}

static void
far_too_long (struct fake_request *rq)
{
  if (rq->type == FAKE_STATUS)
    fake_status (rq, 3, (const uint32_t[]) {
        UINT32_MAX, 3, UINT32_MAX, 3, UINT32_MAX, 3
      });
  else
    fake_serve (rq);
}

/* Ask for the extents of COUNT bytes, one after the other. */
static void
walk (struct image *image, unsigned *steps, bool *all_zero)
{
  uint64_t offset, next;
  struct error e;
  bool data;

  *all_zero = true;
  *steps = 0;
  for (offset = 0; offset < COUNT; offset = next) {
    CHECK (image->ops->extent (image, offset, COUNT, &next, &data, &e) == 0);
    CHECK (next > offset && next <= COUNT);
    if (data)
      *all_zero = false;
    ++*steps;
  }
}

static void
test_bad_extents (void)
{
  struct fake *f;
  struct image *image;
  struct error e;
  uint64_t next;
  unsigned steps, i;
  bool data;
  void (*const bad[]) (struct fake_request *) = {
    no_extent, extents_of_nothing
  };

  for (i = 0; i < 2; ++i) {
    f = fake_start (bad[i], NULL);
    image = nbd_env_open (0);
    CHECK (image->ops->extent (image, 0, COUNT, &next, &data, &e) == -1);
    CHECK_ERROR (&e, EIO, "does not cover what it was asked for");
    CHECK_EQ (image_nbd_content (image, FAKE_SIZE, &e), -1);
    image->ops->close (image);
    fake_stop (f);
  }

  /* A request for each byte of a disk would have no end. */
  f = fake_start (single_bytes, NULL);
  image = nbd_env_open (0);
  walk (image, &steps, &data);
  CHECK (steps <= COUNT / 512);
  CHECK (!data);
  image->ops->close (image);
  fake_stop (f);

  f = fake_start (far_too_long, NULL);
  image = nbd_env_open (0);
  walk (image, &steps, &data);
  CHECK_EQ (steps, 1);
  CHECK (data);
  CHECK_EQ (image_nbd_content (image, FAKE_SIZE, &e), IMAGE_NBD_ZERO);
  image->ops->close (image);
  fake_stop (f);
}

/* ---- The handshake ---- */

static void
of_all_bytes (struct fake *f)
{
  f->size = UINT64_MAX;
}

static void
of_2_to_the_63rd (struct fake *f)
{
  f->size = UINT64_C (1) << 63;
}

static void
of_almost_2_to_the_63rd (struct fake *f)
{
  f->size = INT64_MAX - 4096;
}

static void
test_sizes (void)
{
  void (*const configure[]) (struct fake *) = {
    of_all_bytes, of_2_to_the_63rd, of_almost_2_to_the_63rd
  };
  const char *const texts[] = {
    "18446744073709551615 bytes, which is more than a disk can have",
    "9223372036854775808 bytes, which is more than a disk can have",
    "9223372036854771711 bytes, which is more than a disk can have",
  };
  struct fake *f;
  struct error e;
  uint64_t size;
  unsigned i;

  for (i = 0; i < 3; ++i) {
    f = fake_start (NULL, configure[i]);
    CHECK (image_nbd_open (nbd_env.uri, 0, &size, &e) == NULL);
    CHECK (strstr (e.msg, texts[i]) != NULL);
    fake_stop (f);
  }
}

/* ---- Time ---- */

static _Atomic (bool) first_ended;

static void *
read_first (void *opaque)
{
  struct image *image = opaque;
  struct error e;
  char byte;

  CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
  CHECK_ERROR (&e, EIO, "the connection to the server was lost");
  atomic_store (&first_ended, true);
  return NULL;
}

/* All are answered but the read of the first byte. */
static void
withhold_one (struct fake_request *rq)
{
  if (rq->type == FAKE_READ && rq->offset == 0)
    atomic_store (&rq->fake->hanging, true);
  else
    fake_serve (rq);
}

/* A request that the server forgets ends, even if it answers all others. */
static void
test_forgotten_request (void)
{
  const uint64_t patience = nbd_conn_patience_ns;
  struct fake *f = fake_start (withhold_one, NULL);
  struct image *image;
  pthread_t thread;
  struct error e;
  uint64_t until;
  char byte;

  nbd_conn_patience_ns = NS_PER_SEC;
  image = nbd_env_open (0);
  CHECK (pthread_create (&thread, NULL, read_first, image) == 0);
  while (!atomic_load (&f->hanging))
    unit_give_time ();
  until = now_monotonic_ns () + 20 * NS_PER_SEC;
  while (!atomic_load (&first_ended)) {
    CHECK (now_monotonic_ns () < until);
    image->ops->pread (image, &byte, 1, 1, &e);
  }
  CHECK (pthread_join (thread, NULL) == 0);
  image->ops->close (image);
  fake_stop (f);
  nbd_conn_patience_ns = patience;
}

/* One byte of a reply now and then keeps nobody either. */
static void
drip (struct fake_request *rq)
{
  uint32_t i;

  if (rq->type != FAKE_READ) {
    fake_serve (rq);
    return;
  }
  for (i = 0; i < 100; ++i) {
    fake_data (rq, false, rq->offset + i, 1);
    unit_give_time ();
  }
}

static void
test_drip (void)
{
  const uint64_t patience = nbd_conn_patience_ns;
  struct fake *f = fake_start (drip, NULL);
  struct image *image = nbd_env_open (0);
  uint64_t before = now_monotonic_ns ();
  struct error e;
  char buf[200];

  nbd_conn_patience_ns = NS_PER_SEC;
  CHECK (image->ops->pread (image, buf, sizeof buf, 0, &e) == -1);
  CHECK (now_monotonic_ns () - before < 20 * NS_PER_SEC);
  nbd_conn_patience_ns = patience;
  image->ops->close (image);
  fake_stop (f);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_bad_extents);
  RUN (test_sizes);
  RUN (test_forgotten_request);
  RUN (test_drip);
  nbd_env_end ();
  return unit_end ();
}
