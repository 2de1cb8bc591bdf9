/* SPDX-License-Identifier: BSD-3-Clause */

/* Raw files as targets: what could not be written back is lost for all.
 * sync_file_range and fdatasync are ours.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "image/raw/raw.h"
#include "raw-env.h"
#include "unit.h"

static _Atomic (int) pending[2]; /* of the open files, by descriptor */
static _Atomic (int) pending_fd[2];

static int
take_error (int fd)
{
  unsigned i;

  for (i = 0; i < 2; ++i)
    if (pending_fd[i] == fd && (errno = atomic_exchange (&pending[i], 0)))
      return -1;
  return 0;
}

int
sync_file_range (int fd, off_t offset, off_t count, unsigned flags)
{
  CHECK_EQ (flags, SYNC_FILE_RANGE_WAIT_BEFORE);
  CHECK (offset >= RAW_SIZE && count == 1); /* no page to wait for */
  return take_error (fd);
}

int
fdatasync (int fd)
{
  return take_error (fd);
}

/* The kernel tells each open file once, whoever asks. */
static void
lose (struct image *image, int num)
{
  const struct raw_image *raw = (struct raw_image *) image;

  pending_fd[0] = raw->fd;
  pending_fd[1] = raw->flush_fd;
  atomic_store (&pending[0], num);
  atomic_store (&pending[1], num);
}

static void
close_lost (struct image *image)
{
  atomic_store (&pending[0], 0); /* its numbers are the next one's */
  atomic_store (&pending[1], 0);
  image->ops->close (image);
  unlink (raw_env.path);
}

static int
operate (struct image *image, unsigned op, struct error *e)
{
  char buf[100] = { 0 };
  uint64_t next;
  bool data;

  switch (op) {
  case 0:
    return image->ops->pread (image, buf, 100, 0, e) == -1 ? -1 :
      image_verify (image, e);
  case 1:
    return image->ops->extent (image, 0, RAW_SIZE, &next, &data, e) == -1 ?
      -1 : image_verify (image, e);
  case 2: return image->ops->check (image, e);
  case 3: return image->ops->flush (image, e);
  default: return image->ops->pwrite (image, buf, 100, 0, e);
  }
}

/* Whoever sees it first, all see it from then on. */
static void
test_writeback_error (void)
{
  struct image_id id;
  struct image *image;
  struct error e;
  unsigned first, op;

  for (first = 0; first < 4; ++first) {
    image = raw_env_create (&id);
    CHECK (operate (image, 4, &e) == 0);
    for (op = 0; op < 5; ++op)
      CHECK (operate (image, op, &e) == 0);
    lose (image, first == 0 ? ENOSPC : EIO);
    CHECK (operate (image, first, &e) == -1);
    for (op = 0; op < 10; ++op) {
      CHECK (operate (image, op % 5, &e) == -1);
      CHECK_ERROR (&e, first == 0 ? ENOSPC : EIO,
                   "could not be written to disk");
    }
    close_lost (image);
  }

  /* Nobody had it open when it was lost. */
  image = raw_env_create (&id);
  lose (image, EIO);
  image->ops->close (image);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, EIO, "could not be written to disk");
  unlink (raw_env.path);
}

/* Many look at once: after the first has been told, nobody gets data. */
static _Atomic (bool) told;
static struct image *shared;

static void *
look (void *opaque)
{
  const unsigned op = *(unsigned *) opaque;
  struct error e;
  bool before;

  do {
    before = atomic_load (&told);
    if (operate (shared, op, &e) == -1)
      atomic_store (&told, true);
    else
      CHECK (!before);
  } while (!before);
  return NULL;
}

static void
test_told_once (void)
{
  unsigned ops[] = { 0, 0, 1, 3 }, round, i;
  pthread_t threads[4];
  struct image_id id;

  for (round = 0; round < 50; ++round) {
    shared = raw_env_create (&id);
    atomic_store (&told, false);
    for (i = 0; i < 4; ++i)
      CHECK (pthread_create (&threads[i], NULL, look, &ops[i]) == 0);
    lose (shared, EIO);
    for (i = 0; i < 4; ++i)
      pthread_join (threads[i], NULL);
    close_lost (shared);
  }
}

int
main (void)
{
  unit_start ();
  raw_env_start ();
  RUN (test_writeback_error);
  RUN (test_told_once);
  raw_env_end ();
  return unit_end ();
}
