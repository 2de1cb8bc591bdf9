/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit does not tell a filter which plugin is loaded; the dynamic linker
 * does.
 */

#include <config.h>

#include <link.h>
#include <stddef.h>
#include <string.h>

#include "below/plugin.h"

static const char *const local_plugins[] = {
  "data", "file", "memory", "null", "partitioning", "split", "tmpdisk"
};

static const char prefix[] = "nbdkit-", suffix[] = "-plugin.so";

static int
is_local (struct dl_phdr_info *info, size_t size, void *opaque)
{
  const char *name = strrchr (info->dlpi_name, '/');
  size_t i, len;

  (void) size;
  (void) opaque;
  name = name ? name + 1 : info->dlpi_name;
  if (strncmp (name, prefix, sizeof prefix - 1) != 0)
    return 0;
  name += sizeof prefix - 1;
  for (i = 0; i < sizeof local_plugins / sizeof local_plugins[0]; ++i) {
    len = strlen (local_plugins[i]);
    if (strncmp (name, local_plugins[i], len) == 0 &&
        strcmp (name + len, suffix) == 0)
      return 1;
  }
  return 0;
}

bool
plugin_is_local (void)
{
  return dl_iterate_phdr (is_local, NULL) == 1;
}
