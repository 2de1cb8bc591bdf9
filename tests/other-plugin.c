/* SPDX-License-Identifier: BSD-3-Clause */

/* A plugin for nbdkit that serves a file in another form, and takes no trouble
 * over errors:
 *
 *   file=FILE do=last    the last byte is another
 *   file=FILE do=less    the last byte is left out
 */

#include <config.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static const char *file;
static bool less;

static int
other_config (const char *key, const char *value)
{
  if (strcmp (key, "file") == 0)
    file = value;
  else
    less = strcmp (value, "less") == 0;
  return 0;
}

static void *
other_open (int readonly)
{
  static int fds[100];
  static unsigned nr;
  int *fd = &fds[nr++ % 100];

  *fd = open (file, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  return *fd == -1 ? NULL : fd;
}

static void
other_close (void *handle)
{
  close (*(int *) handle);
}

static int64_t
other_get_size (void *handle)
{
  struct stat st;

  return fstat (*(int *) handle, &st) == -1 ? -1 : st.st_size - less;
}

static int
other_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  const int64_t size = other_get_size (handle);

  (void) flags;
  if (pread (*(int *) handle, buf, count, (off_t) offset) != (ssize_t) count)
    return -1;
  if (!less && offset + count == (uint64_t) size)
    ((unsigned char *) buf)[count - 1] ^= 1;
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "other",
  .config = other_config,
  .open = other_open,
  .close = other_close,
  .get_size = other_get_size,
  .pread = other_pread,
};

NBDKIT_REGISTER_PLUGIN (plugin)
