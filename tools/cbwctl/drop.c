/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl drop: drops snapshots and checkpoints.  All names are looked up
 * first, so that a typing mistake drops nothing.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "cbwctl.h"
#include "create.h"
#include "format.h"
#include "request/client.h"
#include "request/control.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "utils/cleanup.h"

static const char help[] =
  "Usage: cbwctl drop SEGMENT NAME... [OPTIONS]\n"
  "\n"
  "Drops snapshots: their readers get an error, and the space that no older\n"
  "snapshot needs is given back.  Drops checkpoints, too: what has changed since\n"
  "is then counted from the one before.  If one of the names is unknown, nothing\n"
  "is dropped.\n"
  "\n"
  "  --keep-checkpoint\n"
  "          leave a checkpoint behind in place of each snapshot\n"
  "  --hold-timeout=SECS\n"
  "          how long guests' writes may be held for each: if those under\n"
  "          way take longer, it is not dropped (default: 0.2)\n"
  "  --help  print this help\n";

static const struct option options[] = {
  { "keep-checkpoint", no_argument, NULL, 'k' },
  { "hold-timeout", required_argument, NULL, 'h' },
  { NULL }
};

/* Is there the point of snapshot "id", so that a checkpoint can be left? */
static bool
has_point (const struct client *client, uint64_t id)
{
  struct point point;
  unsigned i;

  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (&client->segment.map, i, &point) == POINT_COPIED &&
        point.id == id && point.state != CBW_POINT_MERGING)
      return true;
  return false;
}

/* Can it be dropped, as far as that can be seen here?  0, or -1 with the error
 * set.
 */
static int
look_up (const struct client *client, const char *name, bool keep,
         struct error *e)
{
  const char *path = client->segment.path;
  struct snapshot_info info;
  struct point point;

  if (entry_find (&client->segment.map, name, &info))
    return !keep || has_point (client, info.id) ? 0 :
      error_set (e, EINVAL, "%s: no checkpoint can be left of snapshot "
                 "\"%s\", as changes were not marked when it was taken; drop "
                 "it without --keep-checkpoint", path, name);
  if (!point_find (&client->segment.map, name, &point))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint "
                      "\"%s\"; cbwctl status lists those there are", path,
                      name);
  return !keep ? 0 :
    error_set (e, EINVAL, "%s: \"%s\" is a checkpoint already; drop it "
               "without --keep-checkpoint", path, name);
}

/* The names can all be dropped?  Says which cannot. */
static bool
all_known (const struct client *client, int n, char **names, bool keep)
{
  struct error e;
  bool known = true;
  int i;

  for (i = 0; i < n; ++i)
    if (look_up (client, names[i], keep, &e) == -1) {
      report_error (&e);
      known = false;
    }
  return known;
}

/* Drop the newest snapshot or checkpoint of that name, and say so. */
static int
drop (struct client *client, const char *name, bool keep, uint64_t hold_ns,
      struct error *e)
{
  struct snapshot_info info = { 0 };
  char text[FORMAT_TEXT_MAX];
  bool is_snapshot;

  is_snapshot = entry_find (&client->segment.map, name, &info);
  if (control_drop (client, name, keep ? CBW_DROP_KEEP_POINT : 0, hold_ns,
                    e) == -1)
    return -1;
  printf ("Dropped %s \"%s\"%s.\n", is_snapshot ? "snapshot" : "checkpoint",
          format_text (name, text), !keep ? "" :
          has_point (client, info.id) ? "; its checkpoint stays" :
          "; no checkpoint is left of it");
  return 0;
}

static int
run (int argc, char **argv)
{
  struct client client = { .segment = SEGMENT_INIT };
  CLEANUP_FREE char *segment = NULL;
  int n, i, c, status = EXIT_DONE;
  uint64_t hold_ns = 0;
  bool keep = false;
  struct error e;

  while ((c = next_option (&command_drop, argc, argv, options)) != -1)
    switch (c) {
    case 'k': keep = true; break;
    case 'h': hold_ns = parse_hold (&command_drop, optarg); break;
    }
  n = first_argument (&command_drop, argc, 2, INT_MAX,
                      "a segment and the names of snapshots or checkpoints");
  argv += n;
  n = argc - n - 1;
  announce_waiting ();
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      client_attach (&client, segment, "cbwctl drop", true, SERVER_WAIT,
                     &e) == -1)
    return report_error (&e);
  if (!all_known (&client, n, argv + 1, keep))
    status = EXIT_FAILED;
  for (i = 1; i <= n && status == EXIT_DONE; ++i)
    if (drop (&client, argv[i], keep, hold_ns, &e) == -1)
      status = report_error (&e);
  client_detach (&client);
  return status;
}

const struct command command_drop = {
  .name = "drop",
  .summary = "drop snapshots and checkpoints",
  .help = help,
  .run = run,
};
