/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <fcntl.h>

#include "raw-env.h"
#include "unit.h"

struct raw_env raw_env;

void
raw_env_start (void)
{
  raw_env.dir = unit_tmpdir ();
  CHECK (asprintf (&raw_env.path, "%s/target", raw_env.dir) != -1);
}

void
raw_env_end (void)
{
  free (raw_env.path);
  unit_rmdir (raw_env.dir);
}

struct image *
raw_env_create (struct image_id *id)
{
  struct image *image;
  struct error e;
  bool created;

  image = image_raw_create (raw_env.path, RAW_SIZE, id, &created, &e);
  CHECK (image != NULL);
  CHECK (created);
  return image;
}

enum image_raw_opened
raw_env_open (const struct image_id *id, struct image **image,
              struct error *e)
{
  return image_raw_open (raw_env.path, RAW_SIZE, id, image, e);
}

void
raw_env_write (const char *text)
{
  const int fd = open (raw_env.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  CHECK (fd >= 0);
  CHECK_EQ (write (fd, text, strlen (text)), (ssize_t) strlen (text));
  close (fd);
}
