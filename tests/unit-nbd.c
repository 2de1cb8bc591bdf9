/* SPDX-License-Identifier: BSD-3-Clause */

/* NBD servers as images: real ones, nbdkit with its own plugins. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "image/nbd/nbd-keeper.h"
#include "nbd-env.h"
#include "unit.h"
#include "utils/rounding.h"

#define SIZE (UINT64_C (8) << 20)
#define THREADS 16

static struct image *
spawn (char *const argv[], unsigned flags)
{
  struct image *image;
  struct error e;
  uint64_t size;

  image = image_nbd_spawn (argv, flags, &size, &e);
  if (image == NULL)
    unit_fail (__FILE__, __LINE__, e.msg);
  CHECK_EQ (size, SIZE);
  return image;
}

#define SPAWN(...)                                                      \
  spawn ((char *[]) { (char *) NBDKIT_PROGRAM, (char *) "-f",           \
                      __VA_ARGS__, NULL }, 0)

/* A thread with a part of the image of its own. */
struct worker {
  struct image *image;
  uint64_t start, len;
  unsigned char *model;         /* what must be there */
  uint64_t seed;
  unsigned rounds;
  bool once;                    /* each byte has one value */
  _Atomic (unsigned) written;
  bool failed;
};

static void
write_something (struct worker *w)
{
  const uint64_t offset = unit_random (&w->seed) % w->len;
  const uint64_t count = 1 + unit_random (&w->seed) %
    min_u64 (w->len - offset, 150000);
  struct error e;
  uint64_t i;
  int r;

  if (!w->once && unit_random (&w->seed) % 4 == 0) {
    r = w->image->ops->zero (w->image, w->start + offset, count, &e);
    if (r == 0)
      memset (w->model + offset, 0, count);
  }
  else {
    unsigned char *buf = malloc (count);

    for (i = 0; i < count; ++i)
      buf[i] = (unsigned char) (w->once ? (offset + i) * 13 / 7 :
                                unit_random (&w->seed));
    r = w->image->ops->pwrite (w->image, buf, count, w->start + offset, &e);
    if (r == 0)
      memcpy (w->model + offset, buf, count);
    free (buf);
  }
  if (r == -1) {
    CHECK (e.num == EIO);
    w->failed = true;
  }
}

static void
check_something (struct worker *w)
{
  const uint64_t offset = unit_random (&w->seed) % w->len;
  const uint64_t count = 1 + unit_random (&w->seed) % (w->len - offset);
  unsigned char *buf = malloc (count);
  uint64_t next;
  struct error e;
  bool data;

  if (w->image->ops->pread (w->image, buf, count, w->start + offset,
                            &e) == -1)
    w->failed = true;
  else
    CHECK (memcmp (buf, w->model + offset, count) == 0);
  free (buf);
  if (w->failed ||
      w->image->ops->extent (w->image, w->start + offset,
                             w->start + offset + count, &next, &data,
                             &e) == -1) {
    w->failed = true;
    return;
  }
  CHECK (next > w->start + offset && next <= w->start + offset + count);
  for (; !data && next > w->start + offset; --next)
    CHECK_EQ (w->model[next - 1 - w->start], 0);
}

static void *
work (void *opaque)
{
  struct worker *w = opaque;
  unsigned i;

  for (i = 0; i < w->rounds && !w->failed; ++i) {
    write_something (w);
    w->written++;
    if (!w->failed)
      check_something (w);
  }
  return NULL;
}

static void
start_workers (struct worker *w, pthread_t *threads, struct image *image,
               unsigned rounds, bool once)
{
  unsigned i;

  for (i = 0; i < THREADS; ++i) {
    w[i] = (struct worker) {
      .image = image, .start = i * (SIZE / THREADS), .len = SIZE / THREADS,
      .model = calloc (1, SIZE / THREADS), .seed = i, .rounds = rounds,
      .once = once,
    };
    CHECK (pthread_create (&threads[i], NULL, work, &w[i]) == 0);
  }
}

static void
join_workers (struct worker *w, pthread_t *threads, bool failed)
{
  unsigned i;

  for (i = 0; i < THREADS; ++i) {
    CHECK (pthread_join (threads[i], NULL) == 0);
    CHECK_EQ (w[i].failed, failed);
    free (w[i].model);
  }
}

static void
run_workers (struct image *image, unsigned rounds)
{
  struct worker w[THREADS];
  pthread_t threads[THREADS];
  struct error e;

  start_workers (w, threads, image, rounds, false);
  join_workers (w, threads, false);
  CHECK (image->ops->flush (image, &e) == 0);
  CHECK (image->ops->check (image, &e) == 0);
  image->ops->close (image);
}

static void
test_parallel (void)
{
  run_workers (SPAWN ((char *) "memory", (char *) "8M"), 40);
}

static void
test_parallel_one_connection (void)
{
  run_workers (SPAWN ((char *) "--filter=multi-conn", (char *) "memory",
                      (char *) "8M",
                      (char *) "multi-conn-mode=disable"), 40);
}

/* However busy it is, the connection is not taken for one that has ended:
 * no link is made but the first.  (Its state changes between two looks.)
 */
static void *
read_bytes (void *opaque)
{
  struct image *image = opaque;
  struct error e;
  char byte;
  int i;

  for (i = 0; i < 2000; ++i)
    CHECK (image->ops->pread (image, &byte, 1, 0, &e) == 0);
  return NULL;
}

static void
test_busy (void)
{
  struct image *image =
    SPAWN ((char *) "--filter=multi-conn", (char *) "memory", (char *) "8M",
           (char *) "multi-conn-mode=disable");
  pthread_t threads[THREADS];
  unsigned i;

  for (i = 0; i < THREADS; ++i)
    CHECK (pthread_create (&threads[i], NULL, read_bytes, image) == 0);
  for (i = 0; i < THREADS; ++i)
    CHECK (pthread_join (threads[i], NULL) == 0);
  CHECK_EQ (((struct nbd_image *) image)->tries, 1);
  image->ops->close (image);
}

/* Servers that cannot do much. */
static void
test_no_zero (void)
{
  run_workers (SPAWN ((char *) "--filter=nozero", (char *) "memory",
                      (char *) "8M"), 10);
}

static void
test_no_extents (void)
{
  run_workers (SPAWN ((char *) "--filter=noextents", (char *) "memory",
                      (char *) "8M"), 10);
}

/* It takes so much in one request, and not more. */
static void
test_maximum_payload (void)
{
  struct image *image =
    SPAWN ((char *) "--filter=blocksize-policy", (char *) "memory",
           (char *) "8M", (char *) "blocksize-minimum=1",
           (char *) "blocksize-preferred=4k",
           (char *) "blocksize-maximum=64k",
           (char *) "blocksize-error-policy=error");

  run_workers (image, 10);
}

static void
test_minimum_block (void)
{
  struct image *image =
    SPAWN ((char *) "--filter=blocksize-policy", (char *) "memory",
           (char *) "8M", (char *) "blocksize-minimum=4096",
           (char *) "blocksize-preferred=4096",
           (char *) "blocksize-maximum=32M",
           (char *) "blocksize-error-policy=error");
  unsigned char buf[20000], got[20000];
  uint64_t next;
  struct error e;
  bool data;

  CHECK_EQ (image_nbd_block_size (image), 4096);
  memset (buf, 'x', sizeof buf);
  /* As a last cluster: it begins at a block, and ends where it likes. */
  CHECK (image->ops->pwrite (image, buf, 9999, 8192, &e) == 0);
  CHECK (image->ops->pread (image, got, 9997, 8193, &e) == 0);
  CHECK (memcmp (buf, got, 9997) == 0);
  CHECK (image->ops->pread (image, got, 1, 8192 + 9999, &e) == 0);
  CHECK_EQ (got[0], 0);
  CHECK (image->ops->extent (image, 8193, 8200, &next, &data, &e) == 0);
  CHECK (data);
  CHECK_EQ (next, 8200);
  CHECK (image->ops->zero (image, 8192, 9999, &e) == 0);
  CHECK (image->ops->pread (image, got, 9999, 8192, &e) == 0);
  CHECK_EQ (got[0], 0);
  CHECK (image->ops->punch (image, 1, 10000, &e) == 0);
  image->ops->close (image);
}

/* The server dies in the middle of all that: everybody is told, nobody
 * hangs, and when it is back so is the image.
 */
static void
test_killed (void)
{
  struct worker w[THREADS];
  pthread_t threads[THREADS];
  struct image *image;
  struct error e;
  char *file;
  pid_t pid;
  int fd, i;

  CHECK (asprintf (&file, "%s/file", nbd_env.dir) != -1);
  fd = open (file, O_CREAT | O_WRONLY, 0600);
  CHECK (fd >= 0 && ftruncate (fd, (off_t) SIZE) == 0);
  close (fd);
  pid = nbd_env_serve ("file", file);
  image = nbd_env_open_soon ();
  start_workers (w, threads, image, 1000000, true);
  for (i = 0; i < THREADS; ++i)
    while (atomic_load (&w[i].written) == 0)
      unit_give_time ();
  nbd_env_kill (pid, SIGKILL);
  join_workers (w, threads, true);
  CHECK (image->ops->check (image, &e) == 0);

  pid = nbd_env_serve ("file", file);
  nbd_env_await (image);
  CHECK (image->ops->flush (image, &e) == 0);
  image->ops->close (image);
  nbd_env_kill (pid, SIGTERM);
  unlink (file);
  free (file);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_parallel);
  RUN (test_parallel_one_connection);
  RUN (test_busy);
  RUN (test_no_zero);
  RUN (test_no_extents);
  RUN (test_maximum_payload);
  RUN (test_minimum_block);
  RUN (test_killed);
  nbd_env_end ();
  return unit_end ();
}
