/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl check: the bitmap directory, record by record, and the features that
 * a segment may have.  Bitmaps of kinds or owners that a later version has
 * added are no problem, but this program cannot look at their bits.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "check.h"
#include "segment/directory.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

void
check_directory (struct check *c)
{
  CLEANUP_FREE struct directory *d = malloc (sizeof *d);
  const struct cbw_map *m = &c->segment.map;
  char text[DIRECTORY_TEXT_MAX];
  struct stat st;
  uint64_t size;
  unsigned i;

  if (d == NULL)
    abort ();
  if (fstat (c->segment.fd, &st) == -1)
    return;
  size = min_u64 ((uint64_t) st.st_size, c->segment.mapped);
  directory_copy (m, d);
  for (i = 0; i < CBW_NR_BITMAPS; ++i)
    if (directory_problem (d, i, &m->geometry, size, text, sizeof text))
      check_add (&c->problems, "bitmap directory: record %u: %s", i, text);
  if (map_header (m)->compat & ~CBW_COMPAT_KNOWN)
    check_add (&c->notes, "the segment has features (%016" PRIx64 ") that "
               "this program does not know, and does not check",
               map_header (m)->compat & ~CBW_COMPAT_KNOWN);
}
