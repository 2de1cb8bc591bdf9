/* SPDX-License-Identifier: BSD-3-Clause */

/* Raw files as targets: what is read and written, and how large they are. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "image/raw/raw.h"
#include "raw-env.h"
#include "unit.h"
#include "utils/cleanup.h"

static void
test_fresh_is_hole (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;
  struct stat st;
  uint64_t next;
  unsigned char c = 1;
  bool data = true;

  CHECK (stat (raw_env.path, &st) == 0);
  CHECK_EQ (st.st_size, RAW_SIZE);
  CHECK_EQ (st.st_blocks, 0);
  CHECK_EQ (st.st_mode & 0777, 0600);
  CHECK (image->ops->extent (image, 5, RAW_SIZE - 1, &next, &data, &e) == 0);
  CHECK (!data);
  CHECK_EQ (next, RAW_SIZE - 1);
  CHECK (image->ops->pread (image, &c, 1, RAW_SIZE - 1, &e) == 0);
  CHECK_EQ (c, 0);
  image->ops->close (image);
  unlink (raw_env.path);
}

static void
test_write_read_extents (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  unsigned char buf[65536], back[65536];
  struct error e;
  uint64_t next;
  bool data;

  memset (buf, 0x5a, sizeof buf);
  CHECK (image->ops->pwrite (image, buf, sizeof buf, 2 * 65536, &e) == 0);
  CHECK (image->ops->pwrite (image, buf, 123, RAW_SIZE - 123, &e) == 0);
  CHECK (image->ops->pread (image, back, sizeof back, 2 * 65536, &e) == 0);
  CHECK (memcmp (buf, back, sizeof buf) == 0);

  CHECK (image->ops->extent (image, 0, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (!data);
  CHECK_EQ (next, 2 * 65536);
  CHECK (image->ops->extent (image, next, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (data);
  CHECK_EQ (next, 3 * 65536);
  /* Never past the end that was asked about. */
  CHECK (image->ops->extent (image, 2 * 65536 + 1, 2 * 65536 + 2, &next,
                             &data, &e) == 0);
  CHECK (data);
  CHECK_EQ (next, 2 * 65536 + 2);
  CHECK (image->ops->flush (image, &e) == 0);
  image->ops->close (image);
  unlink (raw_env.path);
}

static void
test_read_past_end (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;
  char buf[2];

  CHECK (image->ops->pread (image, buf, 2, RAW_SIZE - 1, &e) == -1);
  CHECK_ERROR (&e, EIO, "truncate");
  image->ops->close (image);
  unlink (raw_env.path);
}

/* What a full disk does to the copy path. */
static void
test_write_error (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;

  CHECK (image->ops->pwrite (image, "x", 1, INT64_MAX - 1, &e) == -1);
  CHECK (e.num == EFBIG || e.num == EINVAL);
  CHECK (strstr (e.msg, raw_env.path) != NULL);
  image->ops->close (image);
  unlink (raw_env.path);
}

static void
test_no_overwrite (void)
{
  struct image_id id;
  struct error e;
  struct stat st;
  bool created;

  raw_env_write ("precious");
  CHECK (image_raw_create (raw_env.path, RAW_SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EEXIST, "not empty");
  CHECK (stat (raw_env.path, &st) == 0);
  CHECK_EQ (st.st_size, 8);
  unlink (raw_env.path);
}

static void
test_empty_file_is_used (void)
{
  struct image_id id;
  struct image *image;
  struct error e;
  bool created = true;

  raw_env_write ("");
  image = image_raw_create (raw_env.path, RAW_SIZE, &id, &created, &e);
  CHECK (image != NULL);
  CHECK (!created);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* Truncated by another: no write makes it look whole again, and no read or
 * extent takes the hole for what was there.
 */
static void
test_truncated (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;
  uint64_t next;
  char buf[8];
  bool data;

  CHECK (image->ops->pwrite (image, "precious", 8, 0, &e) == 0);
  CHECK (image->ops->pwrite (image, "the last", 8, RAW_SIZE - 8, &e) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == 0);
  CHECK (truncate (raw_env.path, 0) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == -1);
  CHECK (image->ops->extent (image, 0, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (image_verify (image, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (image->ops->pwrite (image, "the last", 8, RAW_SIZE - 8, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (image->ops->pwrite (image, "more", 4, 100, &e) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == 0);
  CHECK (image_verify (image, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (image->ops->extent (image, 4096, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (image_verify (image, &e) == -1);
  CHECK (image->ops->check (image, &e) == -1);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* ---- Writes beside each other ---- */

#define NR_WRITERS 4

/* Writes to clusters are held before the kernel gets them, until "held" is
 * false.  A write that ends at the file's end is not.
 */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool held;
  unsigned inside;              /* writes that are held */
} beside = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  pthread_mutex_lock (&beside.lock);
  if (beside.held && offset + (off_t) count < RAW_SIZE) {
    beside.inside++;
    pthread_cond_broadcast (&beside.changed);
    while (beside.held)
      pthread_cond_wait (&beside.changed, &beside.lock);
  }
  pthread_mutex_unlock (&beside.lock);
  return syscall (SYS_pwrite64, fd, buf, count, offset);
}

struct writer {
  pthread_t thread;
  struct image *image;
  uint64_t offset;
  int r;
  struct error e;
};

static void *
run_writer (void *opaque)
{
  struct writer *w = opaque;

  w->r = w->image->ops->pwrite (w->image, "the last", 8, w->offset, &w->e);
  return NULL;
}

static void
start_writers (struct writer *writers, struct image *image, uint64_t offset,
               uint64_t step)
{
  unsigned i;

  for (i = 0; i < NR_WRITERS; ++i) {
    writers[i].image = image;
    writers[i].offset = offset + i * step;
    CHECK (pthread_create (&writers[i].thread, NULL, run_writer,
                           &writers[i]) == 0);
  }
}

static void
join_writers (struct writer *writers)
{
  unsigned i;

  for (i = 0; i < NR_WRITERS; ++i)
    pthread_join (writers[i].thread, NULL);
}

static void
hold_writers (bool held)
{
  pthread_mutex_lock (&beside.lock);
  beside.held = held;
  pthread_cond_broadcast (&beside.changed);
  pthread_mutex_unlock (&beside.lock);
}

static void
wait_for_writers (unsigned nr)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += 20;
  pthread_mutex_lock (&beside.lock);
  while (beside.inside < nr)
    CHECK (pthread_cond_clockwait (&beside.changed, &beside.lock,
                                   CLOCK_MONOTONIC, &until) == 0);
  pthread_mutex_unlock (&beside.lock);
}

/* Truncated while others write: all of them are in the kernel at once, and
 * make the file longer again; writes at its end come before they are back,
 * and after.  The file never is as long as it was.
 */
static void
test_truncated_beside_writers (void)
{
  struct writer writers[NR_WRITERS], last[NR_WRITERS];
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;
  unsigned round, i;
  struct stat st;
  char buf[8];

  CHECK (image->ops->pwrite (image, "the last", 8, RAW_SIZE - 8, &e) == 0);
  hold_writers (true);
  start_writers (writers, image, 0, 2 * 65536);
  wait_for_writers (NR_WRITERS);
  CHECK (truncate (raw_env.path, 0) == 0);
  for (round = 0; round < 2; ++round) {
    start_writers (last, image, RAW_SIZE - 8, 0);
    join_writers (last);
    for (i = 0; i < NR_WRITERS; ++i) {
      CHECK_EQ (last[i].r, -1);
      CHECK_ERROR (&last[i].e, ESTALE, "resized");
    }
    if (round == 0) {
      hold_writers (false);
      join_writers (writers);
    }
    CHECK (image->ops->pread (image, buf, 8, 0, &e) == -1 ||
           image_verify (image, &e) == -1);
  }
  for (i = 0; i < NR_WRITERS; ++i)
    CHECK_EQ (writers[i].r, 0);
  CHECK (stat (raw_env.path, &st) == 0);
  CHECK_EQ (st.st_size, (NR_WRITERS - 1) * 2 * 65536 + 8);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* Failure leaves nothing behind. */
static void
test_too_long (void)
{
  struct image_id id;
  struct error e;
  bool created;

  CHECK (image_raw_create (raw_env.path, INT64_MAX, &id, &created,
                           &e) == NULL);
  CHECK (strstr (e.msg, raw_env.path) != NULL);
  CHECK (access (raw_env.path, F_OK) == -1);
}

/* ---- Punching ---- */

static uint64_t largest_punch, nr_punches;

int
fallocate (int fd, int mode, off_t offset, off_t count)
{
  nr_punches++;
  if ((uint64_t) count > largest_punch)
    largest_punch = (uint64_t) count;
  return (int) syscall (SYS_fallocate, fd, mode, offset, count);
}

/* In pieces, and only where there is data. */
static void
test_punch (void)
{
  const uint64_t mib = 1 << 20, size = UINT64_C (1) << 40;
  CLEANUP_FREE char *buf = calloc (1, 3 * mib);
  struct image_id id;
  struct image *image;
  struct error e;
  struct stat st;
  bool created, data;
  uint64_t next;

  image = image_raw_create (raw_env.path, size, &id, &created, &e);
  CHECK (image != NULL && buf != NULL);
  CHECK (image->ops->pwrite (image, buf, 3 * mib, mib / 2, &e) == 0);
  CHECK (image->ops->pwrite (image, buf, 100, size - 100, &e) == 0);
  CHECK (image->ops->punch (image, 0, size / 2, &e) == 0);
  CHECK (largest_punch <= mib);
  CHECK (nr_punches >= 3 && nr_punches < 10);
  CHECK (image->ops->extent (image, 0, size, &next, &data, &e) == 0);
  CHECK (!data && next >= size - mib);
  CHECK (image->ops->punch (image, size - 4096, 4096, &e) == 0);
  CHECK (stat (raw_env.path, &st) == 0);
  CHECK_EQ (st.st_size, size);
  CHECK_EQ (st.st_blocks, 0);
  image->ops->close (image);
  unlink (raw_env.path);
}

int
main (void)
{
  unit_start ();
  raw_env_start ();
  RUN (test_fresh_is_hole);
  RUN (test_write_read_extents);
  RUN (test_read_past_end);
  RUN (test_write_error);
  RUN (test_no_overwrite);
  RUN (test_empty_file_is_used);
  RUN (test_truncated);
  RUN (test_truncated_beside_writers);
  RUN (test_too_long);
  RUN (test_punch);
  raw_env_end ();
  return unit_end ();
}
