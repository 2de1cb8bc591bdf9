/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "unit.h"
#include "utils/iszero.h"

#define MAX 200

/* One byte that is not zero is found at every place in every length, and
 * bytes outside the range do not matter.
 */
static void
test_every_place (void)
{
  unsigned char buf[MAX + 2];
  size_t len, i;

  for (len = 0; len <= MAX; ++len) {
    memset (buf, 0, sizeof buf);
    buf[0] = buf[len + 1] = 0xff;
    CHECK (is_zero (buf + 1, len));
    for (i = 0; i < len; ++i) {
      buf[1 + i] = 1;
      CHECK (!is_zero (buf + 1, len));
      buf[1 + i] = 0;
    }
  }
}

/* Data that equals itself shifted by 16 is not zero for that. */
static void
test_periodic (void)
{
  unsigned char buf[MAX];

  memset (buf, 0x55, sizeof buf);
  CHECK (!is_zero (buf, sizeof buf));
}

static void
test_large (void)
{
  const size_t len = 4 << 20;
  unsigned char *buf = calloc (1, len);

  CHECK (buf != NULL);
  CHECK (is_zero (buf, len));
  buf[len - 1] = 1;
  CHECK (!is_zero (buf, len));
  CHECK (is_zero (buf, len - 1));
  free (buf);
}

int
main (void)
{
  unit_start ();
  RUN (test_every_place);
  RUN (test_periodic);
  RUN (test_large);
  return unit_end ();
}
