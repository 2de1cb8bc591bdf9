/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl drop: drops snapshots.  All names are looked up first, so that a typing
 * mistake drops nothing.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "cbwctl.h"
#include "create.h"
#include "format.h"
#include "request/client.h"
#include "request/control.h"
#include "segment/entry.h"
#include "utils/cleanup.h"

static const char help[] =
  "Usage: cbwctl drop SEGMENT NAME... [OPTIONS]\n"
  "\n"
  "Drops snapshots: their readers get an error, and the space that no older\n"
  "snapshot needs is given back.  If one of the names is unknown, nothing is\n"
  "dropped.\n"
  "\n"
  "  --hold-timeout=SECS\n"
  "          how long guests' writes may be held for each snapshot: if those\n"
  "          under way take longer, it is not dropped (default: 0.2)\n"
  "  --help  print this help\n";

static const struct option options[] = {
  { "hold-timeout", required_argument, NULL, 'h' },
  { NULL }
};

/* The names are all known?  Says which are not. */
static bool
all_known (const struct client *client, int n, char **names)
{
  struct snapshot_info info;
  struct error e;
  bool known = true;
  int i;

  for (i = 0; i < n; ++i)
    if (!entry_find (&client->segment.map, names[i], &info)) {
      error_set (&e, ENOENT, "%s: there is no snapshot \"%s\"; "
                 "cbwctl status lists those there are", client->segment.path,
                 names[i]);
      report_error (&e);
      known = false;
    }
  return known;
}

static int
run (int argc, char **argv)
{
  struct client client = { .segment = SEGMENT_INIT };
  CLEANUP_FREE char *segment = NULL;
  char text[FORMAT_TEXT_MAX];
  int n, i, status = EXIT_DONE;
  uint64_t hold_ns = 0;
  struct error e;

  while (next_option (&command_drop, argc, argv, options) != -1)
    hold_ns = parse_hold (&command_drop, optarg);
  n = first_argument (&command_drop, argc, 2, INT_MAX,
                      "a segment and the names of snapshots");
  argv += n;
  n = argc - n - 1;
  announce_waiting ();
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      client_attach (&client, segment, "cbwctl drop", true, SERVER_WAIT,
                     &e) == -1)
    return report_error (&e);
  if (!all_known (&client, n, argv + 1))
    status = EXIT_FAILED;
  for (i = 1; i <= n && status == EXIT_DONE; ++i)
    if (control_drop (&client, argv[i], 0, hold_ns, &e) == -1)
      status = report_error (&e);
    else
      printf ("Dropped snapshot \"%s\".\n", format_text (argv[i], text));
  client_detach (&client);
  return status;
}

const struct command command_drop = {
  .name = "drop",
  .summary = "drop snapshots",
  .help = help,
  .run = run,
};
