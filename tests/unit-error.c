/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include "unit.h"
#include "utils/error.h"

static void
test_message (void)
{
  struct error e;

  CHECK (error_set (&e, ENOSPC, "%s: offset %d", "disk", 7) == -1);
  CHECK_EQ (e.num, ENOSPC);
  CHECK (strcmp (e.msg, "disk: offset 7") == 0);
}

static void
test_errno_text (void)
{
  struct error e;

  CHECK (error_set_errno (&e, ENOSPC, "%s", "disk") == -1);
  CHECK (strcmp (e.msg, "disk: No space left on device") == 0);
}

/* Forgetting the errno must not look like success. */
static void
test_never_0 (void)
{
  struct error e;

  error_set (&e, 0, "x");
  CHECK_EQ (e.num, EIO);
  error_set_errno (&e, 0, "x");
  CHECK_ERROR (&e, EIO, "x: Input/output error");
}

static void
test_overlong (void)
{
  char text[2 * ERROR_MSG_MAX];
  struct error e;

  memset (text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  error_set (&e, EIO, "%s", text);
  CHECK_EQ (strlen (e.msg), ERROR_MSG_MAX - 1);
  error_set_errno (&e, EIO, "%s", text);
  CHECK_EQ (strlen (e.msg), ERROR_MSG_MAX - 1);
}

int
main (void)
{
  unit_start ();
  RUN (test_message);
  RUN (test_errno_text);
  RUN (test_never_0);
  RUN (test_overlong);
  return unit_end ();
}
