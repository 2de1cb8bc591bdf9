/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "parse.h"

int
parse_seconds (const char *text, uint64_t *ns, struct error *e)
{
  char *end;
  double secs;

  errno = 0;
  secs = strtod (text, &end);
  if (end == text || *end != '\0' || errno != 0 ||
      !(secs >= 0 && secs <= SECONDS_MAX))
    return error_set (e, EINVAL,
                      "must be a number of seconds, 0 or more");
  *ns = (uint64_t) (secs * NS_PER_SEC);
  return 0;
}
