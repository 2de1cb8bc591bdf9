/* SPDX-License-Identifier: BSD-3-Clause */

/* Asking the dynamic linker which objects are loaded, and what they define.
 *
 * The linker has a lock while it lists the objects, and another one for
 * dlopen.  So the list is made first, and dlopen called afterwards.
 */

#include <config.h>

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "below/objects.h"
#include "utils/rounding.h"

/* Add one to the list; not 0 ends the listing. */
static int
add (struct dl_phdr_info *info, size_t size, void *opaque)
{
  struct objects *objects = opaque;
  struct object *o = realloc (objects->list,
                              (objects->nr + 1) * sizeof *objects->list);
  unsigned i;

  (void) size;
  objects->failed = true;
  if (o == NULL)
    return 1;
  objects->list = o;
  o += objects->nr;
  *o = (struct object) {
    .name = strdup (info->dlpi_name), .start = UINTPTR_MAX, .end = 0
  };
  if (o->name == NULL)
    return 1;
  for (i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW (Phdr) *p = &info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + p->p_vaddr;

    if (p->p_type != PT_LOAD)
      continue;
    o->start = min_u64 (o->start, start);
    o->end = max_u64 (o->end, start + p->p_memsz);
  }
  objects->nr++;
  objects->failed = false;
  return 0;
}

bool
objects_get (struct objects *objects)
{
  *objects = (struct objects) { .nr = 0 };
  dl_iterate_phdr (add, objects);
  return !objects->failed;
}

void
objects_free (struct objects *objects)
{
  size_t i;

  for (i = 0; i < objects->nr; ++i)
    free (objects->list[i].name);
  free (objects->list);
}

/* By the name that it was given, the linker finds an object without a look at
 * the file system, so a relative path may lead nowhere any more.  It looks for
 * a symbol in what the object was linked with, too.
 */
int
object_defines (const struct object *o, const char *symbol)
{
  void *handle = dlopen (o->name, RTLD_LAZY | RTLD_NOLOAD);
  const void *address;

  if (handle == NULL)
    return -1;
  address = dlsym (handle, symbol);
  dlclose (handle);
  return address != NULL && object_has (o, address);
}
