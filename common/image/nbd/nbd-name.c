/* SPDX-License-Identifier: BSD-3-Clause */

/* Apart from nbd.c, so that who only asks does without libnbd. */

#include <config.h>

#include <string.h>

#include "image/nbd/nbd.h"

bool
image_nbd_is_command (const char *target)
{
  return target[0] == '[';
}

bool
image_nbd_is_name (const char *target)
{
  static const char *const schemes[] = {
    "nbd:", "nbds:", "nbd+unix:", "nbds+unix:", "nbd+vsock:", "nbds+vsock:"
  };
  size_t i;

  for (i = 0; i < sizeof schemes / sizeof schemes[0]; ++i)
    if (strncmp (target, schemes[i], strlen (schemes[i])) == 0)
      return true;
  return image_nbd_is_command (target);
}
