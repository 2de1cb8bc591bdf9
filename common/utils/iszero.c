/* SPDX-License-Identifier: BSD-3-Clause */

/* Finding data that is all zeroes.  Copies call this for every cluster, so it
 * leaves the work to memcmp.
 */

#include <config.h>

#include <string.h>

#include "utils/iszero.h"

bool
is_zero (const void *buf, size_t len)
{
  const unsigned char *p = buf;
  size_t i;

  /* Most data shows itself in its first bytes; if those are zero, the
   * rest is zero exactly when it equals itself shifted by 16, which
   * memcmp finds out at the speed of memory.
   */
  for (i = 0; i < 16; ++i) {
    if (i == len)
      return true;
    if (p[i])
      return false;
  }
  return memcmp (p, p + 16, len - 16) == 0;
}
