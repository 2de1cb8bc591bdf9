/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl checkpoint: makes a checkpoint, a moment from which changes can be
 * told later, without the data of that moment.
 */

#include <config.h>

#include <stdbool.h>
#include <stdio.h>

#include "cbwctl.h"
#include "create.h"
#include "format.h"
#include "request/client.h"
#include "request/control.h"
#include "segment/entry.h"
#include "utils/cleanup.h"

static const char help[] =
  "Usage: cbwctl checkpoint SEGMENT NAME [OPTIONS]\n"
  "\n"
  "Makes a checkpoint of the disk as it is now, and calls it NAME: from now on\n"
  "cbwctl map SEGMENT NAME..SNAPSHOT shows what has changed since.  Its data is\n"
  "not kept.  Guests' writes are held for a moment.\n"
  "\n"
  "  --hold-timeout=SECS\n"
  "          how long guests' writes may be held: if those under way take\n"
  "          longer, no checkpoint is made (default: 0.2)\n"
  "  --json  print the result as JSON\n"
  "  --help  print this help\n";

static const struct option options[] = {
  { "hold-timeout", required_argument, NULL, 'h' },
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

static void
print_made (const char *name, uint64_t held_ns)
{
  char text[FORMAT_TEXT_MAX], held[FORMAT_MAX];

  printf ("Made checkpoint \"%s\"; ", format_text (name, text));
  printf ("guests' writes were held for %s.\n",
          format_moment (held_ns, held));
}

static void
print_made_json (const char *segment, const char *name, uint64_t held_ns)
{
  struct json_object *o = json_object_new_object ();

  json_object_object_add (o, "segment", json_text (segment));
  json_object_object_add (o, "name", json_text (name));
  json_object_object_add (o, "held-ns", json_object_new_uint64 (held_ns));
  json_print (o);
  json_object_put (o);
}

static int
checkpoint (const char *segment, const char *name, uint64_t hold_ns,
            bool json, struct error *e)
{
  struct client client = { .segment = SEGMENT_INIT };
  uint64_t held_ns;
  int r;

  if (entry_check_name (name, e) == -1 ||
      client_attach (&client, segment, "cbwctl checkpoint", true, SERVER_WAIT,
                     e) == -1)
    return -1;
  r = control_checkpoint (&client, name, hold_ns, &held_ns, e);
  client_detach (&client);
  if (r == 0 && json)
    print_made_json (segment, name, held_ns);
  else if (r == 0)
    print_made (name, held_ns);
  return r;
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  uint64_t hold_ns = 0;
  bool json = false;
  struct error e;
  int c;

  while ((c = next_option (&command_checkpoint, argc, argv, options)) != -1)
    switch (c) {
    case 'h': hold_ns = parse_hold (&command_checkpoint, optarg); break;
    case 'j': json = true; break;
    }
  argv += first_argument (&command_checkpoint, argc, 2, 2,
                          "a segment and a name for the checkpoint");
  announce_waiting ();
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      checkpoint (segment, argv[1], hold_ns, json, &e) == -1)
    return report_error (&e);
  return EXIT_DONE;
}

const struct command command_checkpoint = {
  .name = "checkpoint",
  .summary = "make a point from which changes can be told, without data",
  .help = help,
  .run = run,
};
