/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded with a sanitizer's runtime: makes it initialise itself before
 * the constructor of any library runs (the linker's "-z initfirst").
 *
 * The runtime does that in the first call of malloc, and calls gettext
 * there.  Without this, the first is made by newlocale in p11-kit's
 * constructor, which holds the lock that gettext takes: glibc's lock is
 * left in disorder, and after the next gettext (strerror, say) nbdkit hangs
 * as it exits.
 */

#include <stdlib.h>

__attribute__ ((constructor)) static void
initfirst (void)
{
  void *volatile p = malloc (1);

  free (p);
}
