/* SPDX-License-Identifier: BSD-3-Clause */

/* Setting errors.  A message that is too long is cut, never an error itself.
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utils/error.h"

int
error_set (struct error *e, int num, const char *fmt, ...)
{
  va_list args;

  e->num = num ? num : EIO;
  va_start (args, fmt);
  vsnprintf (e->msg, sizeof e->msg, fmt, args);
  va_end (args);
  return -1;
}

int
error_set_errno (struct error *e, int num, const char *fmt, ...)
{
  va_list args;
  size_t len;
  char text[128];

  e->num = num ? num : EIO;
  va_start (args, fmt);
  vsnprintf (e->msg, sizeof e->msg, fmt, args);
  va_end (args);

  len = strlen (e->msg);
  snprintf (e->msg + len, sizeof e->msg - len, ": %s",
            strerror_r (e->num, text, sizeof text));
  return -1;
}
