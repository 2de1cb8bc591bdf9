/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that another process writes, opened for reading only. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "raw-env.h"
#include "unit.h"

static struct image *
open_reader (enum image_reader_kind kind, struct error *e)
{
  int fd = open (raw_env.path, O_RDONLY | O_CLOEXEC);
  struct image *reader;

  CHECK (fd >= 0);
  reader = image_reader_open (&fd, raw_env.path, RAW_SIZE, kind, e);
  CHECK ((fd == -1) == (reader != NULL)); /* it is taken over, or not */
  if (fd >= 0)
    close (fd);
  return reader;
}

/* It sees what is written after it was opened, and notices a new length. */
static void
test_target (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id), *reader;
  struct error e;
  uint64_t next;
  char buf[8];
  bool data;

  reader = open_reader (IMAGE_READER_TARGET, &e);
  CHECK (reader != NULL);
  CHECK (reader->ops->extent (reader, 0, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (!data && next == RAW_SIZE);
  CHECK (image->ops->pwrite (image, "old data", 8, 65536, &e) == 0);
  CHECK (reader->ops->pread (reader, buf, 8, 65536, &e) == 0);
  CHECK (memcmp (buf, "old data", 8) == 0);
  CHECK (reader->ops->extent (reader, 0, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (!data && next <= 65536);
  CHECK (image_verify (reader, &e) == 0);

  CHECK (truncate (raw_env.path, RAW_SIZE - 1) == 0);
  CHECK (reader->ops->pread (reader, buf, 8, 65536, &e) == 0);
  CHECK (image_verify (reader, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (truncate (raw_env.path, 0) == 0);
  CHECK (reader->ops->pread (reader, buf, 8, 65536, &e) == -1);
  reader->ops->close (reader);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* What is known of the source's extents is kept: the file is not asked again
 * about the end of an extent.
 */
static void
test_source (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id), *reader;
  char block[4096] = { 1 };
  struct error e;
  uint64_t next;
  bool data;

  CHECK (image->ops->pwrite (image, block, sizeof block, 65536, &e) == 0);
  reader = open_reader (IMAGE_READER_SOURCE, &e);
  CHECK (reader != NULL);
  CHECK (reader->ops->verify == NULL);
  CHECK (reader->ops->extent (reader, 4096, 8192, &next, &data, &e) == 0);
  CHECK (!data && next == 8192);
  CHECK (image->ops->pwrite (image, block, sizeof block, 8192, &e) == 0);
  CHECK (reader->ops->extent (reader, 8192, 65536, &next, &data, &e) == 0);
  CHECK (!data && next == 65536);
  CHECK (reader->ops->extent (reader, 65536, RAW_SIZE, &next, &data, &e) ==
         0);
  CHECK (data && next > 65536 && next < RAW_SIZE);
  CHECK (reader->ops->extent (reader, next, RAW_SIZE, &next, &data, &e) == 0);
  CHECK (!data && next == RAW_SIZE);
  reader->ops->close (reader);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* Neither a pipe, nor a file of a system that is not known to be coherent. */
static void
test_refused (void)
{
  struct error e;
  int fd, fds[2];

  CHECK (pipe (fds) == 0);
  CHECK (image_reader_open (&fds[0], "pipe", 1, IMAGE_READER_SOURCE, &e) ==
         NULL);
  CHECK_ERROR (&e, ENOTSUP, "pipe: is not a file");
  close (fds[0]);
  close (fds[1]);
  fd = open ("/proc/self/status", O_RDONLY | O_CLOEXEC);
  CHECK (fd >= 0);
  CHECK (image_reader_open (&fd, "status", 1, IMAGE_READER_TARGET, &e) ==
         NULL);
  CHECK_ERROR (&e, ENOTSUP, "status: is not a file");
  close (fd);
}

int
main (void)
{
  unit_start ();
  raw_env_start ();
  RUN (test_target);
  RUN (test_source);
  RUN (test_refused);
  raw_env_end ();
  return unit_end ();
}
