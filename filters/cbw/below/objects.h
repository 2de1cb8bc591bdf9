/* SPDX-License-Identifier: BSD-3-Clause */

/* The objects that the dynamic linker has loaded into this process: the
 * program, its libraries, and what nbdkit has loaded as plugin and filters.
 */

#ifndef CBW_OBJECTS_H
#define CBW_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct object {
  char *name;                   /* as it was given to the linker */
  uintptr_t start, end;         /* the addresses that it takes */
};

struct objects {
  struct object *list;          /* in the order in which they were loaded */
  size_t nr;
  bool failed;                  /* there was no memory for all of them */
};

/* Objects that are loaded and unloaded meanwhile may be in the list, or not.
 * Returns false if there is no memory.
 */
extern bool objects_get (struct objects *objects);
extern void objects_free (struct objects *objects);

#define CLEANUP_OBJECTS __attribute__ ((cleanup (objects_free)))

/* Is the address in the object? */
static inline bool
object_has (const struct object *o, const void *address)
{
  return (uintptr_t) address >= o->start && (uintptr_t) address < o->end;
}

/* Does the object define the symbol, itself?  1, 0, or -1 if that cannot be
 * told.
 */
extern int object_defines (const struct object *o, const char *symbol);

#endif /* CBW_OBJECTS_H */
