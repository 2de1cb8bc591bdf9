/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl: finds the command, and has what the commands share. */

#include <config.h>

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cbwctl.h"

/* Seconds without an answer until the user is told what we wait for. */
#define PATIENCE 3

static const struct command *const commands[] = {
  &command_create,
  &command_checkpoint,
  &command_drop,
  &command_backup,
  &command_status,
  &command_map,
  &command_check,
};

#define NR_COMMANDS (sizeof commands / sizeof commands[0])

static void
print_help (void)
{
  size_t i;

  printf ("Usage: cbwctl COMMAND SEGMENT [ARGUMENTS] [OPTIONS]\n"
          "\n"
          "Takes, drops and shows live snapshots of a disk that nbdkit serves "
          "with\n"
          "the cbw filter.  SEGMENT is what the filter got as cbw-shm=.\n"
          "\n"
          "Commands:\n");
  for (i = 0; i < NR_COMMANDS; ++i)
    printf ("  %-10s %s\n", commands[i]->name, commands[i]->summary);
  printf ("\n"
          "Options:\n"
          "  --help     print this help; cbwctl COMMAND --help prints that of "
          "a command\n"
          "  --version  print the version\n"
          "\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage.  See cbwctl(1).\n");
}

/* Everything that was printed has gone where it should? */
static int
finish (int status)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return status;
  fprintf (stderr, "cbwctl: cannot write the output: %s\n", strerror (errno));
  return EXIT_FAILED;
}

int
next_option (const struct command *c, int argc, char **argv,
             const struct option *options)
{
  enum { HELP = 0x1000 };
  struct option all[24] = { { "help", no_argument, NULL, HELP } };
  size_t i;
  int r;

  for (i = 0; options[i].name; ++i)
    all[i + 1] = options[i];
  r = getopt_long (argc, argv, "", all, NULL);
  if (r == HELP) {
    fputs (c->help, stdout);
    exit (finish (EXIT_DONE));
  }
  if (r == '?') {               /* getopt_long has said what */
    fprintf (stderr, "Try \"cbwctl %s --help\".\n", c->name);
    exit (EXIT_USAGE);
  }
  return r;
}

void
usage_error (const struct command *c, const char *fmt, ...)
{
  va_list args;

  fprintf (stderr, "cbwctl %s: ", c->name);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\nTry \"cbwctl %s --help\".\n", c->name);
  exit (EXIT_USAGE);
}

int
first_argument (const struct command *c, int argc, int min, int max,
                const char *what)
{
  if (argc - optind < min)
    usage_error (c, "expected %s", what);
  if (argc - optind > max)
    usage_error (c, "too many arguments: expected %s", what);
  return optind;
}

int
report_error (const struct error *e)
{
  fprintf (stderr, "cbwctl: %s\n", e->msg);
  return EXIT_FAILED;
}

static void
say_waiting (int sig)
{
  static const char text[] = "cbwctl: waiting for the server; is it stopped, "
    "or its disk slow?\n";

  (void) sig;
  if (write (STDERR_FILENO, text, sizeof text - 1) == -1)
    return;
}

void
announce_waiting (void)
{
  const struct sigaction sa = {
    .sa_handler = say_waiting, .sa_flags = SA_RESTART
  };

  sigaction (SIGALRM, &sa, NULL);
  alarm (PATIENCE);
}

/* Sizes are checked before anything is touched; but the file may be
 * truncated after that.
 */
static void
segment_truncated (int sig)
{
  static const char text[] =
    "cbwctl: the segment was truncated while it was being read\n";

  (void) sig;
  if (write (STDERR_FILENO, text, sizeof text - 1) == -1)
    _exit (EXIT_FAILED);
  _exit (EXIT_FAILED);
}

static const struct command *
find_command (const char *name)
{
  size_t i;

  for (i = 0; i < NR_COMMANDS; ++i)
    if (strcmp (commands[i]->name, name) == 0)
      return commands[i];
  return NULL;
}

static int
run_command (const struct command *c, int argc, char **argv)
{
  char *argv0;
  int status;

  /* What getopt_long begins its messages with. */
  if (asprintf (&argv0, "cbwctl %s", c->name) == -1)
    return EXIT_FAILED;
  argv[0] = argv0;
  status = c->run (argc, argv);
  free (argv0);
  return status;
}

int
main (int argc, char **argv)
{
  const struct sigaction on_bus = { .sa_handler = segment_truncated };
  const struct command *c;

  setlocale (LC_ALL, "");
  sigaction (SIGBUS, &on_bus, NULL);

  if (argc >= 2 && strcmp (argv[1], "--help") == 0) {
    print_help ();
    return finish (EXIT_DONE);
  }
  if (argc >= 2 && strcmp (argv[1], "--version") == 0) {
    printf ("cbwctl %s\n", PACKAGE_VERSION);
    return finish (EXIT_DONE);
  }
  c = argc >= 2 ? find_command (argv[1]) : NULL;
  if (c == NULL) {
    if (argc >= 2)
      fprintf (stderr, "cbwctl: there is no command \"%s\"\n", argv[1]);
    fprintf (stderr, "Usage: cbwctl COMMAND SEGMENT [ARGUMENTS] [OPTIONS]\n"
             "Try \"cbwctl --help\", which lists the commands.\n");
    return EXIT_USAGE;
  }
  return finish (run_command (c, argc - 1, argv + 1));
}
