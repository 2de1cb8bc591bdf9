/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit's log, and its -D flags. */

#include <config.h>

#include <stdarg.h>

#include <nbdkit-filter.h>

#include "below/log.h"

NBDKIT_DLL_PUBLIC int cbw_debug_copy;
NBDKIT_DLL_PUBLIC int cbw_debug_claims;
NBDKIT_DLL_PUBLIC int cbw_debug_cut;
NBDKIT_DLL_PUBLIC int cbw_debug_end;
NBDKIT_DLL_PUBLIC int cbw_debug_backup;
NBDKIT_DLL_PUBLIC int cbw_debug_takeover;
NBDKIT_DLL_PUBLIC int cbw_debug_cool_ms;

void
log_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  nbdkit_verror (fmt, args);
  va_end (args);
}

void
log_debug (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  nbdkit_vdebug (fmt, args);
  va_end (args);
}
