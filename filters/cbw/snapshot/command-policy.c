/* SPDX-License-Identifier: BSD-3-Clause */

/* Which targets may be commands; command-policy.h says why. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "image/nbd/nbd.h"
#include "snapshot/command-policy.h"

int
command_policy_client (const struct command_policy *p, const char *target,
                       struct error *e)
{
  if (p->allowed || !image_nbd_is_command (target))
    return 0;
  return error_set (e, EPERM, "a target that is a command is refused: the "
                    "server runs only its own cbw-target=, unless it was "
                    "started with cbw-commands=on");
}

int
command_policy_takeover (const struct command_policy *p, const char *segment,
                         const char *name, const char *target,
                         struct error *e)
{
  if (p->allowed || !image_nbd_is_command (target) ||
      (p->target && strcmp (target, p->target) == 0))
    return 0;
  return error_set (e, EPERM, "%s: the target of its snapshot \"%s\" is a "
                    "command, which is run only if the command line says so: "
                    "give cbw-commands=on, or if the snapshot was taken at "
                    "start, cbw-snapshot=%s and cbw-target=%s", segment, name,
                    name, target);
}
