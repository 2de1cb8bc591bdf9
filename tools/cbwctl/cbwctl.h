/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl: what its commands have in common.
 *
 * A command is a file of its own with a struct command, which cbwctl.c
 * lists.  It says what went wrong on stderr and returns an exit status;
 * usage errors and --help end the program.
 */

#ifndef CBW_CBWCTL_H
#define CBW_CBWCTL_H

#include <getopt.h>
#include <stdint.h>

#include "utils/clock.h"
#include "utils/error.h"

#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* How long to wait for a server that is just starting, as one may be that
 * went into the background in the line before.
 */
#define SERVER_WAIT (2 * NS_PER_SEC)

struct command {
  const char *name;
  const char *summary;          /* one line of cbwctl --help */
  const char *help;             /* cbwctl COMMAND --help */
  int (*run) (int argc, char **argv);
};

extern const struct command command_backup;
extern const struct command command_create;
extern const struct command command_checkpoint;
extern const struct command command_drop;
extern const struct command command_status;
extern const struct command command_map;
extern const struct command command_check;

/* The next option, as getopt_long returns it, or -1.  --help, which every
 * command has without listing it, and unknown options end the program.
 */
extern int next_option (const struct command *c, int argc, char **argv,
                        const struct option *options);

/* There must be "min" to "max" arguments behind the options; returns the
 * index of the first.  "what" names them.
 */
extern int first_argument (const struct command *c, int argc, int min,
                           int max, const char *what);

/* A usage error: says it, and where to look, and ends the program. */
extern void usage_error (const struct command *c, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3), noreturn));

/* Say what went wrong; returns EXIT_FAILED. */
extern int report_error (const struct error *e);

/* If nothing has been answered within a few seconds, say that the server
 * is being waited for.
 */
extern void announce_waiting (void);

#endif /* CBW_CBWCTL_H */
