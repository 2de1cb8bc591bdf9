/* SPDX-License-Identifier: BSD-3-Clause */

/* Parsing numbers that users write.  The parameters of the filter and the
 * plugin, and the options of cbwctl, use the same functions.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "utils/clock.h"
#include "utils/parse.h"

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

const char *
parse_size (const char *text, uint64_t *size)
{
  static const char suffixes[] = "kMGT";
  const char *s;
  char *end;
  unsigned shift = 0;

  while (isspace ((unsigned char) *text))
    text++;
  if (!isdigit ((unsigned char) *text))
    return NULL;
  errno = 0;
  *size = strtoull (text, &end, strncmp (text, "0x", 2) == 0 ? 16 : 10);
  if (errno != 0)
    return NULL;
  if (*end != '\0' && (s = strchr (suffixes, *end)) != NULL) {
    shift = 10 * (unsigned) (s - suffixes + 1);
    end++;
  }
  if (*size > UINT64_MAX >> shift)
    return NULL;
  *size <<= shift;
  return end;
}
