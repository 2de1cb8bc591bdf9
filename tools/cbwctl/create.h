/* SPDX-License-Identifier: BSD-3-Clause */

/* Arguments that several commands take.  What is wrong with a value is a usage
 * error of the command.
 */

#ifndef CBW_CREATE_H
#define CBW_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "cbwctl.h"

/* The path as the server, which has a working directory of its own, is to
 * be told it: malloc'd, or NULL with the error set.  That of a target may
 * also name an NBD server.
 */
extern char *absolute_path (const char *option, const char *path,
                            bool target, struct error *e);

/* --on-error=: enum cbw_on_error */
extern uint32_t parse_on_error (const struct command *c, const char *value);

/* "secs", a part of the value of the option, in nanoseconds. */
extern uint64_t parse_time (const struct command *c, const char *option,
                            const char *value, const char *secs);

/* --full=stall:SECS, in nanoseconds */
extern uint64_t parse_full (const struct command *c, const char *value);

/* --hold-timeout=SECS, in nanoseconds */
extern uint64_t parse_hold (const struct command *c, const char *value);

#endif /* CBW_CREATE_H */
