/* SPDX-License-Identifier: BSD-3-Clause */

/* NBD servers, nbdkit, that end, stop and come back, with their data or
 * without it.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "nbd-env.h"
#include "unit.h"

#define SIZE (UINT64_C (8) << 20)

/* It is back with nothing. */
static void
test_forgetful (void)
{
  struct image *image;
  struct error e;
  char byte = 1;
  pid_t pid;
  int i;

  pid = nbd_env_serve ("memory", "8M");
  image = nbd_env_open_soon ();
  CHECK (image->ops->pwrite (image, &byte, 1, 4711, &e) == 0);
  CHECK (image->ops->flush (image, &e) == 0);
  nbd_env_kill (pid, SIGKILL);
  pid = nbd_env_serve ("memory", "8M");
  for (i = 0; image->ops->check (image, &e) == 0; ++i) {
    CHECK (i < 1000);
    CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
    unit_give_time ();
  }
  CHECK_ERROR (&e, ESTALE, "is back, but not what was written at offset 4711");
  image->ops->close (image);
  nbd_env_kill (pid, SIGTERM);
}

/* What was trimmed need not be there. */
static void
test_trimmed (void)
{
  static _Atomic (uint64_t) words[IMAGE_NBD_WORDS];
  struct image *image;
  struct error e;
  char byte = 1;
  pid_t pid;

  pid = nbd_env_serve ("memory", "8M");
  image = nbd_env_open_soon ();
  image_nbd_remember (image, words);
  CHECK (image->ops->pwrite (image, &byte, 1, 4711, &e) == 0);
  CHECK (image->ops->punch (image, 0, 65536, &e) == 0);
  nbd_env_kill (pid, SIGKILL);
  pid = nbd_env_serve ("memory", "8M");
  nbd_env_await (image);
  image->ops->close (image);

  image = image_nbd_reopen (nbd_env.uri, 0, SIZE, 4096, words, &e);
  CHECK (image != NULL);
  CHECK (image->ops->pread (image, &byte, 1, 0, &e) == 0);
  CHECK (image->ops->pwrite (image, "\1", 1, 1, &e) == 0);
  image->ops->close (image);
  nbd_env_kill (pid, SIGTERM);

  pid = nbd_env_serve ("memory", "8M");
  while (access (nbd_env.path, F_OK) == -1)
    unit_give_time ();
  CHECK (image_nbd_reopen (nbd_env.uri, 0, SIZE, 4096, words, &e) == NULL);
  CHECK (strstr (e.msg, "is back, but not what was written at offset 1:"));
  nbd_env_kill (pid, SIGTERM);
}

/* Where nobody is, reopening succeeds all the same. */
static void
test_reopen_later (void)
{
  _Atomic (uint64_t) words[IMAGE_NBD_WORDS] = { 0 };
  struct image *image;
  struct error e;
  char byte;
  pid_t pid;

  image = image_nbd_reopen (nbd_env.uri, 0, SIZE, 4096, words, &e);
  CHECK (image != NULL);
  CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
  CHECK_ERROR (&e, EIO, "cannot connect");
  CHECK (image->ops->check (image, &e) == 0);
  pid = nbd_env_serve ("memory", "8M");
  nbd_env_await (image);
  image->ops->close (image);
  nbd_env_kill (pid, SIGTERM);

  pid = nbd_env_serve ("memory", "4M");
  while (access (nbd_env.path, F_OK) == -1)
    unit_give_time ();
  CHECK (image_nbd_reopen (nbd_env.uri, 0, SIZE, 4096, words, &e) == NULL);
  CHECK (strstr (e.msg, "the export has 4194304 bytes, and not"));
  nbd_env_kill (pid, SIGTERM);
}

/* A server that does not answer is given up by closing the image. */
static void *
read_byte (void *opaque)
{
  struct image *image = opaque;
  struct error e;
  char byte;

  return image->ops->pread (image, &byte, 1, 0, &e) == 0 ? image : NULL;
}

static void
test_stopped (void)
{
  pthread_t thread;
  struct image *image;
  struct error e;
  void *r;
  pid_t pid;

  pid = nbd_env_serve ("memory", "8M");
  image = nbd_env_open_soon ();
  CHECK (kill (pid, SIGSTOP) == 0);
  CHECK (pthread_create (&thread, NULL, read_byte, image) == 0);
  unit_give_time ();
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (kill (pid, SIGCONT) == 0);
  CHECK (pthread_join (thread, &r) == 0 && r == image);
  CHECK (kill (pid, SIGSTOP) == 0);
  image->ops->close (image);
  CHECK (kill (pid, SIGCONT) == 0);
  nbd_env_kill (pid, SIGTERM);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_forgetful);
  RUN (test_trimmed);
  RUN (test_reopen_later);
  RUN (test_stopped);
  nbd_env_end ();
  return unit_end ();
}
