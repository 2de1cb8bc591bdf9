/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <signal.h>
#include <sys/wait.h>

#include "nbd-env.h"
#include "unit.h"

struct nbd_env nbd_env;

void
nbd_env_start (void)
{
  nbd_env.dir = unit_tmpdir ();
  CHECK (asprintf (&nbd_env.path, "%s/sock", nbd_env.dir) != -1);
  CHECK (asprintf (&nbd_env.uri, "nbd+unix:///?socket=%s",
                   nbd_env.path) != -1);
}

void
nbd_env_end (void)
{
  free (nbd_env.uri);
  free (nbd_env.path);
  unit_rmdir (nbd_env.dir);
}

pid_t
nbd_env_serve (const char *plugin, const char *what)
{
  pid_t pid = fork ();

  CHECK (pid != -1);
  if (pid == 0) {
    execl (NBDKIT_PROGRAM, "nbdkit", "-f", "-U", nbd_env.path, plugin, what,
           (char *) NULL);
    _exit (127);
  }
  return pid;
}

void
nbd_env_kill (pid_t pid, int sig)
{
  CHECK (kill (pid, sig) == 0);
  CHECK (waitpid (pid, NULL, 0) == pid);
  unlink (nbd_env.path);
}

struct image *
nbd_env_open (unsigned flags)
{
  struct image *image;
  struct error e;
  uint64_t size;

  image = image_nbd_open (nbd_env.uri, flags, &size, &e);
  if (image == NULL)
    unit_fail (__FILE__, __LINE__, e.msg);
  return image;
}

struct image *
nbd_env_open_soon (void)
{
  struct image *image;
  struct error e;
  uint64_t size;
  int i;

  for (i = 0; i < 1000; ++i) {
    image = image_nbd_open (nbd_env.uri, 0, &size, &e);
    if (image)
      return image;
    unit_give_time ();
  }
  unit_fail (__FILE__, __LINE__, e.msg);
  return NULL;
}

void
nbd_env_await (struct image *image)
{
  struct error e;
  char byte;
  int i;

  for (i = 0; image->ops->pread (image, &byte, 1, 0, &e) == -1; ++i) {
    CHECK (i < 1000);
    unit_give_time ();
  }
}
