/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded with a sanitizer's runtime, so that nbdkit alone gets that:
 * programs which nbdkit starts (qemu-nbd, scripts) do not stand it.
 */

#include <config.h>

#include <dlfcn.h>
#include <locale.h>
#include <stdlib.h>

__attribute__ ((constructor)) static void
preload_once (void)
{
  unsetenv ("LD_PRELOAD");
}

/* Under gcc 12's thread sanitizer every look-up of a message (strerror)
 * leaves glibc's lock of locales with one reader too few; whoever takes it
 * for writing then waits for ever.  A library which nbdkit is linked with
 * does, as the process ends: there is nothing worth freeing by then.
 */
void
freelocale (locale_t locale)
{
  (void) locale;
}

/* A leak is reported when the modules are gone; keep them, so that the
 * report can name functions.
 */
int
dlclose (void *handle)
{
  (void) handle;
  return 0;
}
