/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that the source is. */

#include <config.h>

#include <stdio.h>
#include <unistd.h>

#include "below/source-file.h"

void
source_file_path (const struct source_file *f, char *path, size_t size)
{
  char link[32];
  ssize_t r;

  snprintf (link, sizeof link, "/proc/self/fd/%d", f->fd);
  r = readlink (link, path, size);
  if (r == -1 || (size_t) r >= size)
    r = 0;
  path[r] = '\0';
}
