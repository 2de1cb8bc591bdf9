/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl create: takes a snapshot.  The options that backup has too are parsed
 * here for both.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cbwctl.h"
#include "create.h"
#include "format.h"
#include "image/nbd/nbd.h"
#include "request/client.h"
#include "request/control.h"
#include "segment/entry.h"
#include "utils/cleanup.h"
#include "utils/parse.h"

static const char help[] =
  "Usage: cbwctl create SEGMENT NAME [OPTIONS]\n"
  "\n"
  "Takes a snapshot of the disk as it is now, and calls it NAME.  Guests'\n"
  "writes are held for a moment.\n"
  "\n"
  "  --target=FILE|URI|'[ COMMAND ]'\n"
  "                 where old data goes: a new sparse file, or an NBD server\n"
  "                 (default: NAME.cow beside the segment; if that is in\n"
  "                 memory, or others may make files there, a file in a\n"
  "                 private directory in /var/tmp)\n"
  "  --force        replace a file that exists, or overwrite the data of an\n"
  "                 export\n"
  "  --on-error=break-snapshot|break-guest-write\n"
  "                 what a copy that fails does: break the snapshot, or make\n"
  "                 the guest's write fail (default: break-snapshot)\n"
  "  --timeout=SECS a copy that takes longer fails (default: 0, no limit)\n"
  "  --full=stall:SECS\n"
  "                 how long guests' writes wait for space if the target is\n"
  "                 full, before that counts as failed (default: 0)\n"
  "  --quota=SIZE   how much the target may hold (default: 0, no limit)\n"
  "  --hold-timeout=SECS\n"
  "                 how long guests' writes may be held: if those under way\n"
  "                 take longer, no snapshot is taken (default: 0.2)\n"
  "  --access=FILE  only these areas may be read: lines OFFSET LENGTH\n"
  "  --json         print the result as JSON\n"
  "  --help         print this help\n";

static const struct option options[] = {
  { "target", required_argument, NULL, 't' },
  { "force", no_argument, NULL, 'f' },
  { "on-error", required_argument, NULL, 'e' },
  { "timeout", required_argument, NULL, 'l' },
  { "full", required_argument, NULL, 's' },
  { "quota", required_argument, NULL, 'q' },
  { "hold-timeout", required_argument, NULL, 'h' },
  { "access", required_argument, NULL, 'a' },
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

char *
absolute_path (const char *option, const char *path, bool target,
               struct error *e)
{
  CLEANUP_FREE char *cwd = NULL;
  char *r = NULL;

  if (path[0] == '/' || (target && image_nbd_is_name (path)))
    r = strdup (path);
  else if (path[0] == '\0') {
    error_set (e, EINVAL, "%s: the file name is empty", option);
    return NULL;
  }
  else if ((cwd = get_current_dir_name ()) == NULL ||
           asprintf (&r, "%s/%s", cwd, path) == -1)
    r = NULL;
  if (r == NULL)
    error_set_errno (e, errno, "%s", path);
  return r;
}

uint32_t
parse_on_error (const struct command *c, const char *value)
{
  if (strcmp (value, "break-snapshot") == 0)
    return CBW_ON_ERROR_BREAK_SNAPSHOT;
  if (strcmp (value, "break-guest-write") == 0)
    return CBW_ON_ERROR_BREAK_GUEST_WRITE;
  usage_error (c, "--on-error=%s: must be break-snapshot or "
               "break-guest-write", value);
}

uint64_t
parse_time (const struct command *c, const char *option, const char *value,
            const char *secs)
{
  struct error e;
  uint64_t ns;

  if (parse_seconds (secs, &ns, &e) == -1)
    usage_error (c, "%s=%s: %s", option, value, e.msg);
  return ns;
}

uint64_t
parse_full (const struct command *c, const char *value)
{
  if (strncmp (value, "stall:", 6) != 0)
    usage_error (c, "--full=%s: must be stall:SECS", value);
  return parse_time (c, "--full", value, value + 6);
}

uint64_t
parse_hold (const struct command *c, const char *value)
{
  const uint64_t ns = parse_time (c, "--hold-timeout", value, value);

  if (ns == 0 || ns > CBW_HOLD_MAX)
    usage_error (c, "--hold-timeout=%s: must be more than 0, and no more than "
                 "%d seconds", value, (int) (CBW_HOLD_MAX / NS_PER_SEC));
  return ns;
}

static uint64_t
parse_quota (const char *value)
{
  uint64_t size;
  const char *end = parse_size (value, &size);

  if (end == NULL || *end != '\0')
    usage_error (&command_create, "--quota=%s: is not a size", value);
  return size;
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
  json_object_object_add (t, "format",
                          json_object_new_string (image_nbd_is_name (target) ?
                                                  "nbd" : "raw"));
  json_object_object_add (o, "target", t);
  json_object_object_add (o, "held-ns", json_object_new_uint64 (held_ns));
  json_print (o);
  json_object_put (o);
}

/* The paths in "s" are as the user gave them, or NULL. */
static int
create (const char *segment, struct control_snapshot s, bool json,
        struct error *e)
{
  struct client client = { .segment = SEGMENT_INIT };
  CLEANUP_FREE char *target = NULL, *access = NULL;
  uint64_t held_ns;
  int r;

  if (entry_check_name (s.name, e) == -1 ||
      (s.target &&
       (target = absolute_path ("--target", s.target, true, e)) == NULL) ||
      (s.access &&
       (access = absolute_path ("--access", s.access, false, e)) == NULL) ||
      client_attach (&client, segment, "cbwctl create", true, SERVER_WAIT,
                     e) == -1)
    return -1;
  if (target == NULL)
    target = control_default_target (&client.segment, s.name, e);
  s.target = target;
  s.access = access;
  r = target ? control_create (&client, &s, &held_ns, e) : -1;
  client_detach (&client);
  if (r == 0)
    (json ? print_created_json : print_created) (segment, s.name, target,
                                                 held_ns);
  return r;
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  struct control_snapshot s = { 0 };
  bool json = false;
  struct error e;
  int c;

  while ((c = next_option (&command_create, argc, argv, options)) != -1)
    switch (c) {
    case 't': s.target = optarg; break;
    case 'f': s.flags |= CBW_CREATE_FORCE; break;
    case 'e':
      s.options.on_error = parse_on_error (&command_create, optarg);
      break;
    case 'l':
      s.options.timeout_ns = parse_time (&command_create, "--timeout",
                                         optarg, optarg);
      break;
    case 's':
      s.options.stall_ns = parse_full (&command_create, optarg);
      break;
    case 'q': s.options.quota = parse_quota (optarg); break;
    case 'h': s.hold_ns = parse_hold (&command_create, optarg); break;
    case 'a': s.access = optarg; break;
    case 'j': json = true; break;
    }
  argv += first_argument (&command_create, argc, 2, 2,
                          "a segment and a name for the snapshot");
  s.name = argv[1];
  announce_waiting ();
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      create (segment, s, json, &e) == -1)
    return report_error (&e);
  return EXIT_DONE;
}

const struct command command_create = {
  .name = "create",
  .summary = "take a snapshot",
  .help = help,
  .run = run,
};
