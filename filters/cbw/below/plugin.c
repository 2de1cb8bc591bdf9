/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit does not tell a filter which plugin is loaded, and what is between
 * them; the dynamic linker does.  nbdkit loads the plugin first, then the
 * filters from the innermost out, and asks each for a function of a name that
 * it knows.
 */

#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "below/objects.h"
#include "below/plugin.h"

#define PLUGIN_SYMBOL "plugin_init"
#define FILTER_SYMBOL "filter_init"

static const char *const local_plugins[] = {
  "data", "file", "memory", "null", "partitioning", "split", "tmpdisk"
};

/* Those of them whose disk is in the memory of the process, or a new one each
 * time.
 */
static const char *const forgetful_plugins[] = {
  "data", "memory", "null", "tmpdisk"
};

/* Is that the name of the file of nbdkit's plugin, or filter? */
static bool
is_named (const struct object *o, const char *name, const char *kind)
{
  const char *slash = strrchr (o->name, '/');
  char file[64];

  snprintf (file, sizeof file, "nbdkit-%s-%s.so", name, kind);
  return strcmp (slash ? slash + 1 : o->name, file) == 0;
}

static bool
is_plugin (const struct object *o, const char *name)
{
  return is_named (o, name, "plugin");
}

/* The first object that defines the symbol; NULL if there is none, or one that
 * comes before it cannot be asked.
 */
static const struct object *
first_with (const struct objects *objects, const char *symbol)
{
  int r = 0;
  size_t i;

  for (i = 0; i < objects->nr && r == 0; ++i)
    r = object_defines (&objects->list[i], symbol);
  return r == 1 ? &objects->list[i - 1] : NULL;
}

static bool
is_one_of (const struct object *plugin, const char *const *names, size_t nr)
{
  size_t i;

  for (i = 0; plugin && i < nr; ++i)
    if (is_plugin (plugin, names[i]))
      return true;
  return false;
}

static bool
is_local (const struct object *plugin)
{
  return is_one_of (plugin, local_plugins,
                    sizeof local_plugins / sizeof *local_plugins);
}

bool
plugin_is_local (void)
{
  CLEANUP_OBJECTS struct objects objects;

  return objects_get (&objects) &&
    is_local (first_with (&objects, PLUGIN_SYMBOL));
}

bool
plugin_forgets (void)
{
  CLEANUP_OBJECTS struct objects objects;

  return objects_get (&objects) &&
    is_one_of (first_with (&objects, PLUGIN_SYMBOL), forgetful_plugins,
               sizeof forgetful_plugins / sizeof *forgetful_plugins);
}

bool
plugin_keeps_changes (void)
{
  CLEANUP_OBJECTS struct objects objects;
  const struct object *plugin, *filter;

  if (!objects_get (&objects))
    return false;
  plugin = first_with (&objects, PLUGIN_SYMBOL);
  filter = first_with (&objects, FILTER_SYMBOL);
  return is_local (plugin) && filter && filter > plugin &&
    object_has (filter, local_plugins);
}

bool
plugin_writes_at_flush (void)
{
  CLEANUP_OBJECTS struct objects objects;
  size_t i;

  if (!objects_get (&objects))
    return false;
  for (i = 0; i < objects.nr; ++i) {
    if (object_has (&objects.list[i], local_plugins)) /* this filter */
      return false;
    if (is_named (&objects.list[i], "cache", "filter"))
      return true;
  }
  return false;
}

/* S1.  A filter that something else had loaded before the plugin may be one
 * that is between, too.
 */
int
plugin_is_next (const char *name, struct error *e)
{
  CLEANUP_OBJECTS struct objects objects;
  const struct object *plugin, *filter;

  if (!objects_get (&objects))
    return error_set (e, ENOMEM, "there is no memory to look which plugin is "
                      "below");
  plugin = first_with (&objects, PLUGIN_SYMBOL);
  if (plugin == NULL || !is_plugin (plugin, name))
    return error_set (e, ENOTSUP, "the plugin is not nbdkit's \"%s\", but %s",
                      name, plugin ? plugin->name : "none that is known");
  filter = first_with (&objects, FILTER_SYMBOL);
  if (filter == NULL || !object_has (filter, local_plugins))
    return error_set (e, ENOTSUP, "the filter %s is between this one and the "
                      "plugin", filter ? filter->name : "that is next");
  if (filter < plugin)
    return error_set (e, ENOTSUP, "this filter was loaded before the plugin, "
                      "so other filters may have been, too");
  return 0;
}
