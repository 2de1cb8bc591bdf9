/* SPDX-License-Identifier: BSD-3-Clause */

/* Which targets may be commands.
 *
 * A target "[ COMMAND ... ]" is run as the server's user.  So it must come
 * from that user's command line: it is cbw-target=, or the user has said
 * cbw-commands=on, and then clients and the segment may name any.  Who owns
 * the segment, or could write to it, says nothing of this: a client may be
 * a server that others talk to, and may have been taken over by them.
 */

#ifndef CBW_COMMAND_POLICY_H
#define CBW_COMMAND_POLICY_H

#include <stdbool.h>

#include "utils/error.h"

/* Of the command line.  Zeroes allow no command.  Read only, after the
 * server's start.
 */
struct command_policy {
  bool allowed;                 /* cbw-commands=on */
  const char *target;           /* cbw-target=, or NULL */
};

/* May a client name this target?  0, or -1 with the error set (EPERM). */
extern int command_policy_client (const struct command_policy *p,
                                  const char *target, struct error *e);

/* May this target of the snapshot "name" be taken over with the segment?
 * 0, or -1 with the error set (EPERM), which says what to give.
 */
extern int command_policy_takeover (const struct command_policy *p,
                                    const char *segment, const char *name,
                                    const char *target, struct error *e);

#endif /* CBW_COMMAND_POLICY_H */
