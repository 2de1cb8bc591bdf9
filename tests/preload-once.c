/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded with a sanitizer's runtime, so that nbdkit alone gets that:
 * programs which nbdkit starts (qemu-nbd, scripts) do not stand it.
 */

#include <dlfcn.h>
#include <stdlib.h>

__attribute__ ((constructor)) static void
preload_once (void)
{
  unsetenv ("LD_PRELOAD");
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
