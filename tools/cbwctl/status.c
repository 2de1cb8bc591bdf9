/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl status: options, and the choice of how to show the status. */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cbwctl.h"
#include "segment/segment.h"
#include "status.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

static const char help[] =
  "Usage: cbwctl status SEGMENT [OPTIONS]\n"
  "\n"
  "Shows the server, its clients, the snapshots, and how much has changed since\n"
  "each snapshot or checkpoint.  It only looks: the server may be stopped or\n"
  "dead.\n"
  "\n"
  "  --json           print it as JSON\n"
  "  --watch          show it again each second, with rates, until ^C or q\n"
  "  --interval=SECS  with --watch: how often; fractions are allowed\n"
  "  --count=N        with --watch: end after N times\n"
  "  --help           print this help\n";

static const struct option options[] = {
  { "json", no_argument, NULL, 'j' },
  { "watch", no_argument, NULL, 'w' },
  { "interval", required_argument, NULL, 'i' },
  { "count", required_argument, NULL, 'c' },
  { NULL }
};

static uint64_t
parse_interval (const char *value)
{
  char *end;
  double secs;

  errno = 0;
  secs = strtod (value, &end);
  if (end == value || *end != '\0' || errno != 0 ||
      !(secs >= 0.01 && secs <= 1e6))
    usage_error (&command_status, "--interval=%s: must be a number of "
                 "seconds, 0.01 or more", value);
  return (uint64_t) (secs * NS_PER_SEC);
}

static uint64_t
parse_count (const char *value)
{
  unsigned long long n;
  char *end;

  errno = 0;
  n = strtoull (value, &end, 10);
  if (end == value || *end != '\0' || errno != 0 || value[0] == '-' || n == 0)
    usage_error (&command_status, "--count=%s: must be a number, 1 or more",
                 value);
  return n;
}

static int
show (const char *segment, bool json, struct error *e)
{
  struct status *s = malloc (sizeof *s);
  int r;

  if (s == NULL)
    return error_set_errno (e, ENOMEM, "%s", segment);
  r = status_collect (segment, NULL, s, e);
  if (r == 0) {
    if (json)
      status_print_json (s, false);
    else
      status_print_text (s);
    status_free (s);
  }
  free (s);
  return r;
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  bool json = false, watch = false;
  uint64_t interval_ns = 0, count = 0;
  struct error e;
  int c;

  while ((c = next_option (&command_status, argc, argv, options)) != -1)
    switch (c) {
    case 'j': json = true; break;
    case 'w': watch = true; break;
    case 'i': interval_ns = parse_interval (optarg); break;
    case 'c': count = parse_count (optarg); break;
    }
  if (!watch && (interval_ns || count))
    usage_error (&command_status, "--interval and --count go with --watch");
  argv += first_argument (&command_status, argc, 1, 1, "a segment");
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      (watch ?
       status_watch (segment, interval_ns ? interval_ns : NS_PER_SEC, count,
                     json, &e) :
       show (segment, json, &e)) == -1)
    return report_error (&e);
  return EXIT_DONE;
}

const struct command command_status = {
  .name = "status",
  .summary = "show the server, the snapshots, and what is going on",
  .help = help,
  .run = run,
};
