/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cbwctl.h"
#include "cleanup.h"
#include "client.h"
#include "control.h"
#include "format.h"
#include "snaptab.h"

static const char help[] =
  "Usage: cbwctl create SEGMENT NAME [OPTIONS]\n"
  "\n"
  "Takes a snapshot of the disk as it is now and calls it NAME.  Guests'\n"
  "writes are held for that moment.\n"
  "\n"
  "  --target=FILE  where old data goes: a new sparse file (default: NAME.cow\n"
  "                 beside the segment, or in /var/tmp if that is in memory)\n"
  "  --force        replace the file if it exists\n"
  "  --json         print the result as JSON\n"
  "  --help         print this help\n";

static const struct option options[] = {
  { "target", required_argument, NULL, 't' },
  { "force", no_argument, NULL, 'f' },
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

/* The server has a working directory of its own. */
static char *
absolute_path (const char *path, struct error *e)
{
  CLEANUP_FREE char *cwd = NULL;
  char *r = NULL;

  if (path[0] == '/')
    r = strdup (path);
  else if (path[0] == '\0') {
    error_set (e, EINVAL, "the target's file name is empty");
    return NULL;
  }
  else if ((cwd = get_current_dir_name ()) == NULL ||
           asprintf (&r, "%s/%s", cwd, path) == -1)
    r = NULL;
  if (r == NULL)
    error_set_errno (e, errno, "%s", path);
  return r;
}

static void
print_created (const char *segment, const char *name, const char *target,
               uint64_t held_ns)
{
  char text[FORMAT_TEXT_MAX], held[FORMAT_MAX];

  printf ("Created snapshot \"%s\"; ", format_text (name, text));
  printf ("guests' writes were held for %s.\n",
          format_moment (held_ns, held));
  printf ("Old data goes to %s.\n", format_text (target, text));
  printf ("Read it with: nbdkit snapshot-access %s\n",
          format_text (segment, text));
}

static void
print_created_json (const char *segment, const char *name, const char *target,
                    uint64_t held_ns)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *t = json_object_new_object ();

  json_object_object_add (o, "segment", json_text (segment));
  json_object_object_add (o, "name", json_text (name));
  json_object_object_add (t, "filename", json_text (target));
  json_object_object_add (t, "format", json_object_new_string ("raw"));
  json_object_object_add (o, "target", t);
  json_object_object_add (o, "held-ns", json_object_new_uint64 (held_ns));
  json_print (o);
  json_object_put (o);
}

static int
create (const char *segment, const char *name, const char *file,
        uint32_t flags, bool json, struct error *e)
{
  struct client client = { .segment = SEGMENT_INIT };
  CLEANUP_FREE char *target = NULL;
  uint64_t held_ns;
  int r;

  if (snaptab_check_name (name, e) == -1 ||
      (file && (target = absolute_path (file, e)) == NULL) ||
      client_attach (&client, segment, "cbwctl create", 0, e) == -1)
    return -1;
  if (target == NULL)
    target = control_default_target (&client.segment, name, e);
  r = target ? control_create (&client, name, target, flags, &held_ns, e) : -1;
  client_detach (&client);
  if (r == 0)
    (json ? print_created_json : print_created) (segment, name, target,
                                                 held_ns);
  return r;
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  const char *file = NULL;
  uint32_t flags = 0;
  bool json = false;
  struct error e;
  int c;

  while ((c = next_option (&command_create, argc, argv, options)) != -1)
    switch (c) {
    case 't': file = optarg; break;
    case 'f': flags |= CBW_CREATE_FORCE; break;
    case 'j': json = true; break;
    }
  argv += first_argument (&command_create, argc, 2, 2,
                          "a segment and a name for the snapshot");
  announce_waiting ();
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      create (segment, argv[1], file, flags, json, &e) == -1)
    return report_error (&e);
  return EXIT_DONE;
}

const struct command command_create = {
  .name = "create",
  .summary = "take a snapshot",
  .help = help,
  .run = run,
};
