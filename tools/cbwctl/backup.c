/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl backup: starts a backup, controls one, or follows one. */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backup.h"
#include "cbwctl.h"
#include "create.h"
#include "format.h"
#include "request/control.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "utils/cleanup.h"
#include "utils/parse.h"

static const char help[] =
  "Usage: cbwctl backup SEGMENT [NAME] --to=FILE|URI [--since=POINT|auto]\n"
  "                                    [OPTIONS]\n"
  "       cbwctl backup SEGMENT [NAME] [--json]\n"
  "       cbwctl backup SEGMENT [NAME] --pause | --resume | --cancel |\n"
  "                                    --speed=SIZE\n"
  "\n"
  "Has the server write the disk, as it is now, to an image, while guests\n"
  "continue.  cbwctl waits for the end; ^C cancels the backup.  The backup\n"
  "continues if the terminal is closed.  Without --to, cbwctl waits for a backup\n"
  "that was begun before.\n"
  "\n"
  "  --to=FILE      the image: a new sparse file, which gets its name when it is\n"
  "                 whole\n"
  "  --to=URI, --to='[ COMMAND... ]'\n"
  "                 the image: an export of an NBD server, or of one that\n"
  "                 is started for the backup\n"
  "  --since=POINT  only what has changed since that snapshot or checkpoint, into\n"
  "                 an image which holds the disk as it was then; with auto,\n"
  "                 since the one whose image it is, or if there is none, all\n"
  "  --force        replace a file that exists, when the image is whole;\n"
  "                 overwrite the data of an export; with --since, do not ask\n"
  "                 whether it is the right image\n"
  "  --speed=SIZE   bytes a second, at most (default: 0, no limit); without\n"
  "                 --to, for a backup that is under way\n"
  "  --on-source-error=report|ignore|stop|enospc\n"
  "  --on-target-error=report|ignore|stop|enospc\n"
  "                 what an error of reading the disk, or writing the image,\n"
  "                 does: fail (the default); try again later; wait for\n"
  "                 --resume; wait if there is no space, else fail\n"
  "  --on-error=break-snapshot|break-guest-write\n"
  "                 what fails if old data cannot be copied before a guest's\n"
  "                 write: the backup, or that write (default:\n"
  "                 break-snapshot)\n"
  "  --timeout=SECS a copy for a guest's write that takes longer fails\n"
  "                 (default: 0, no limit)\n"
  "  --full=stall:SECS\n"
  "                 how long guests' writes wait for space if the target is\n"
  "                 full, before that counts as failed (default: 0)\n"
  "  --hold-timeout=SECS\n"
  "                 how long guests' writes may be held when the backup\n"
  "                 begins, or with --cancel, when it ends (default: 0.2)\n"
  "  --detach       do not wait\n"
  "  --pause        pause the backup\n"
  "  --resume       continue the backup, after --pause or an error\n"
  "  --cancel       end the backup, and remove the image\n"
  "  --json         print the result as JSON\n"
  "  --help         print this help\n";

static const struct option options[] = {
  { "to", required_argument, NULL, 't' },
  { "since", required_argument, NULL, 'i' },
  { "force", no_argument, NULL, 'f' },
  { "speed", required_argument, NULL, 'v' },
  { "on-source-error", required_argument, NULL, 'S' },
  { "on-target-error", required_argument, NULL, 'T' },
  { "on-error", required_argument, NULL, 'e' },
  { "timeout", required_argument, NULL, 'l' },
  { "full", required_argument, NULL, 's' },
  { "hold-timeout", required_argument, NULL, 'h' },
  { "detach", no_argument, NULL, 'd' },
  { "pause", no_argument, NULL, 'p' },
  { "resume", no_argument, NULL, 'r' },
  { "cancel", no_argument, NULL, 'c' },
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

/* The command line. */
struct request {
  struct control_snapshot s;    /* target: as the user gave it, or NULL */
  const char *since;            /* a name, "auto", or NULL */
  bool starting;                /* options that go with --to were given */
  bool has_speed, detach, json;
  char action;                  /* 'p', 'r', 'c', or 0 */
};

static uint8_t
parse_policy (const char *option, const char *value)
{
  static const char *const names[] = {
    [CBW_FILL_REPORT] = "report", [CBW_FILL_IGNORE] = "ignore",
    [CBW_FILL_STOP] = "stop", [CBW_FILL_ENOSPC] = "enospc",
  };
  uint8_t i;

  for (i = 0; i < sizeof names / sizeof names[0]; ++i)
    if (strcmp (value, names[i]) == 0)
      return i;
  usage_error (&command_backup, "%s=%s: must be report, ignore, stop or "
               "enospc", option, value);
}

static uint64_t
parse_speed (const char *value)
{
  uint64_t size;
  const char *end = parse_size (value, &size);

  if (end == NULL || *end != '\0' || size > INT64_MAX)
    usage_error (&command_backup, "--speed=%s: is not a number of bytes",
                 value);
  return size;
}

/* Copy entry i if a backup is to be seen there. */
static bool
read_backup (const struct cbw_map *m, unsigned i, struct backup *backup)
{
  uint32_t state;

  if (!entry_copy (m, i, &backup->entry) || !backup->entry.options.backup)
    return false;
  backup->index = i;
  state = atomic_load (&backup->entry.state);
  return state == CBW_SNAPSHOT_LIVE || state == CBW_SNAPSHOT_BROKEN;
}

/* The backup called "name"; with NULL, the only one. */
static int
find_backup (const struct client *client, const char *name,
             struct backup *backup, struct error *e)
{
  const struct cbw_map *m = &client->segment.map;
  unsigned i, nr = 0, found = 0;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (read_backup (m, i, backup) &&
        (name == NULL || strcmp (backup->entry.name, name) == 0)) {
      found = i;
      nr++;
    }
  if (nr == 1 && read_backup (m, found, backup))
    return 0;
  if (nr > 1)
    return error_set (e, EINVAL, "%s: there are %u backups: say which; "
                      "cbwctl status lists them", client->segment.path, nr);
  return name ?
    error_set (e, ENOENT, "%s: there is no backup \"%s\"",
               client->segment.path, name) :
    error_set (e, ENOENT, "%s: no backup is under way; --to=FILE begins one",
               client->segment.path);
}

/* From which point on is it to be? */
static int
find_since (const struct client *client, const char *name,
            struct control_snapshot *s, struct error *e)
{
  struct point point;

  if (name == NULL)
    return 0;
  s->flags |= CBW_CREATE_SINCE;
  s->since = CBW_SINCE_AUTO;
  if (strcmp (name, "auto") == 0)
    return 0;
  if (!point_find (&client->segment.map, name, &point))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint "
                      "\"%s\"", client->segment.path, name);
  if (point.state != CBW_POINT_VALID)
    return error_set (e, ESTALE, "%s: changes since \"%s\" are not known any "
                      "more: %s; make a full backup", client->segment.path,
                      name, point_reason (point.reason));
  s->since = point.id;
  return 0;
}

static int
start_backup (struct client *client, const struct request *rq,
              const char *name, struct backup *backup, struct error *e)
{
  struct control_snapshot s = rq->s;
  CLEANUP_FREE char *target = absolute_path ("--to", s.target, true, e);
  uint64_t held_ns;

  if (target == NULL || find_since (client, rq->since, &s, e) == -1)
    return -1;
  s.name = name ? name : "backup";
  s.target = target;
  s.options.backup = 1;
  if (control_create (client, &s, &held_ns, e) == -1)
    return -1;
  return find_backup (client, s.name, backup, e);
}

static int
control (struct client *client, const struct request *rq,
         const struct backup *backup, struct error *e)
{
  const uint64_t id = backup->entry.id;

  switch (rq->action) {
  case 'p':
    return control_job (client, id, CBW_JOB_PAUSE, 0, e);
  case 'r':
    return control_job (client, id, CBW_JOB_RESUME, 0, e);
  case 'c':
    if (atomic_load (&backup->entry.job.state) != CBW_JOB_COMPLETE &&
        control_drop_id (client, id, 0, rq->s.hold_ns, e) == -1)
      return -1;
    if (backup_was_complete (client, backup)) /* perhaps just now */
      return error_set (e, EALREADY, "backup \"%s\" is complete",
                        backup->entry.name);
    return 0;
  default:
    return control_job (client, id, CBW_JOB_SPEED, rq->s.speed, e);
  }
}

static void
check_usage (const struct request *rq)
{
  const bool control = rq->action || (rq->has_speed && !rq->s.target);

  if (rq->starting && !rq->s.target)
    usage_error (&command_backup, "this goes with --to=FILE, which begins a "
                 "backup");
  if (control && (rq->s.target || rq->detach || rq->json))
    usage_error (&command_backup, "--pause, --resume, --cancel and --speed "
                 "are for a backup that is under way: give nothing else");
  if (rq->s.hold_ns && !rq->s.target && rq->action != 'c')
    usage_error (&command_backup, "--hold-timeout goes with --to or "
                 "--cancel");
  if (rq->action && rq->has_speed)
    usage_error (&command_backup, "--pause, --resume, --cancel and --speed "
                 "cannot be combined");
}

static int
run_request (struct client *client, const struct request *rq,
             const char *name)
{
  struct backup backup;
  struct error e;
  int r;

  r = rq->s.target ? start_backup (client, rq, name, &backup, &e) :
    find_backup (client, name, &backup, &e);
  if (r == 0 && (rq->action || (rq->has_speed && !rq->s.target)))
    r = control (client, rq, &backup, &e);
  else if (r == 0 && !rq->detach)
    return backup_follow (client, &backup, rq->json);
  return r == -1 ? report_error (&e) : EXIT_DONE;
}

static void
parse_options (int argc, char **argv, struct request *rq)
{
  const struct command *const cmd = &command_backup;
  struct control_snapshot *s = &rq->s;
  int c;

  while ((c = next_option (cmd, argc, argv, options)) != -1) {
    rq->starting = rq->starting || strchr ("fiSTelsd", c);
    switch (c) {
    case 't': s->target = optarg; break;
    case 'i': rq->since = optarg; break;
    case 'f': s->flags |= CBW_CREATE_FORCE; break;
    case 'v':
      s->speed = parse_speed (optarg);
      rq->has_speed = true;
      break;
    case 'S':
      s->options.on_source_error = parse_policy ("--on-source-error", optarg);
      break;
    case 'T':
      s->options.on_target_error = parse_policy ("--on-target-error", optarg);
      break;
    case 'e': s->options.on_error = parse_on_error (cmd, optarg); break;
    case 'l':
      s->options.timeout_ns = parse_time (cmd, "--timeout", optarg, optarg);
      break;
    case 's': s->options.stall_ns = parse_full (cmd, optarg); break;
    case 'h': s->hold_ns = parse_hold (cmd, optarg); break;
    case 'd': rq->detach = true; break;
    case 'j': rq->json = true; break;
    default:
      if (rq->action)
        usage_error (cmd, "--pause, --resume and --cancel cannot be "
                     "combined");
      rq->action = (char) c;
    }
  }
  check_usage (rq);
}

static int
run (int argc, char **argv)
{
  struct client client = { .segment = SEGMENT_INIT };
  CLEANUP_FREE char *segment = NULL;
  struct request rq = { 0 };
  const char *name;
  struct error e;
  int n, status;

  parse_options (argc, argv, &rq);
  n = first_argument (&command_backup, argc, 1, 2,
                      "a segment, and perhaps a name for the backup");
  name = n + 1 < argc ? argv[n + 1] : NULL;
  if (name && entry_check_name (name, &e) == -1)
    return report_error (&e);
  announce_waiting ();
  if ((segment = segment_path (argv[n], &e)) == NULL ||
      client_attach (&client, segment, "cbwctl backup", true, SERVER_WAIT,
                     &e) == -1)
    return report_error (&e);
  status = run_request (&client, &rq, name);
  client_detach (&client);
  return status;
}

const struct command command_backup = {
  .name = "backup",
  .summary = "write the disk as it is now to an image",
  .help = help,
  .run = run,
};
