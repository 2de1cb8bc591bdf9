/* SPDX-License-Identifier: BSD-3-Clause */

/* Control requests as the callers want them: arguments in, a reply or an error
 * out.  cbwctl and the plugin's own snapshots use these functions.  They check
 * only what would not fit into a request; the server checks all the rest.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "request/control.h"
#include "request/request.h"
#include "segment/entry.h"
#include "segment/point.h"
#include "utils/cleanup.h"

/* Run one request; on failure turn the reply into an error. */
static int
run_request (struct client *c, enum cbw_request_kind kind, uint64_t snapshot,
             struct cbw_control *rq, struct error *e)
{
  const int r = request_control (c, kind, snapshot, rq);

  if (r == 0)
    return 0;
  if (r == ESHUTDOWN)
    return error_set (e, r, "%s: its server ended before it answered; start "
                      "it again, and look whether the request was carried out",
                      c->segment.path);
  if (rq->message[0] == '\0')
    return error_set_errno (e, r, "%s: the server does not know this request",
                            c->segment.path);
  return error_set (e, r, "%s", rq->message);
}

static int
copy_path (char *to, const char *path, const char *what, struct error *e)
{
  if (strlen (path) >= CBW_TARGET_MAX)
    return error_set (e, ENAMETOOLONG, "%.64s...: the path of %s cannot be "
                      "longer than %d bytes", path, what, CBW_TARGET_MAX - 1);
  strcpy (to, path);
  return 0;
}

int
control_create (struct client *c, const struct control_snapshot *s,
                uint64_t *held_ns, struct error *e)
{
  struct cbw_control rq = {
    .flags = s->flags, .options = s->options, .speed = s->speed,
    .hold_ns = s->hold_ns, .since = s->since
  };

  if (entry_check_name (s->name, e) == -1 ||
      copy_path (rq.target, s->target, "a target", e) == -1 ||
      (s->access &&
       copy_path (rq.access, s->access, "an access file", e) == -1))
    return -1;
  strcpy (rq.name, s->name);
  if (getrandom (rq.uuid, sizeof rq.uuid, 0) != sizeof rq.uuid)
    return error_set_errno (e, errno, "getrandom");
  if (run_request (c, s->options.backup ? CBW_REQUEST_BACKUP :
                   CBW_REQUEST_CREATE, 0, &rq, e) == -1)
    return -1;
  *held_ns = rq.held_ns;
  return 0;
}

int
control_checkpoint (struct client *c, const char *name, uint64_t hold_ns,
                    uint64_t *held_ns, struct error *e)
{
  struct cbw_control rq = { .hold_ns = hold_ns };

  if (entry_check_name (name, e) == -1)
    return -1;
  strcpy (rq.name, name);
  if (getrandom (rq.uuid, sizeof rq.uuid, 0) != sizeof rq.uuid)
    return error_set_errno (e, errno, "getrandom");
  if (run_request (c, CBW_REQUEST_CHECKPOINT, 0, &rq, e) == -1)
    return -1;
  *held_ns = rq.held_ns;
  return 0;
}

int
control_drop_id (struct client *c, uint64_t id, uint32_t flags,
                 uint64_t hold_ns, struct error *e)
{
  struct cbw_control rq = { .flags = flags, .hold_ns = hold_ns };

  return run_request (c, CBW_REQUEST_DROP, id, &rq, e);
}

int
control_job (struct client *c, uint64_t id, enum cbw_job_action action,
             uint64_t speed, struct error *e)
{
  struct cbw_control rq = { .action = action, .speed = speed };

  return run_request (c, CBW_REQUEST_JOB, id, &rq, e);
}

int
control_drop (struct client *c, const char *name, uint32_t flags,
              uint64_t hold_ns, struct error *e)
{
  struct snapshot_info info;
  struct point point;

  if (entry_find (&c->segment.map, name, &info))
    return control_drop_id (c, info.id, flags, hold_ns, e);
  if (!point_find (&c->segment.map, name, &point))
    return error_set (e, ENOENT, "%s: there is no snapshot or checkpoint "
                      "\"%s\"", c->segment.path, name);
  if (flags & CBW_DROP_KEEP_POINT)
    return error_set (e, EINVAL, "%s: \"%s\" is a checkpoint already",
                      c->segment.path, name);
  return control_drop_id (c, point.id, flags, hold_ns, e);
}

/* Can nobody but root and us make a file in this directory? */
static bool
directory_is_closed (const char *dir)
{
  struct stat st;

  return stat (dir, &st) == 0 && S_ISDIR (st.st_mode) &&
    (st.st_uid == 0 || st.st_uid == geteuid ()) &&
    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Make our private directory, or see that what has its name is that.
 * /var/tmp is sticky: what is ours there stays ours.
 */
static int
make_private_directory (const char *dir, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct stat st;
  bool made;

  made = mkdir (dir, 0700) == 0;
  if (!made && errno != EEXIST)
    return error_set_errno (e, errno, "%s: cannot make this directory, which "
                            "old data would go to; give a target", dir);
  fd = open (dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0 && made)
    fchmod (fd, 0700);          /* a umask may have taken bits of it */
  if (fd == -1 || fstat (fd, &st) == -1 || st.st_uid != geteuid () ||
      (st.st_mode & 0777) != 0700)
    return error_set (e, EPERM, "%s: is not a directory that only user %u "
                      "may open (mode 0700), so old data does not go there; "
                      "give a target (cbwctl create --target=FILE), or "
                      "remove it", dir, (unsigned) geteuid ());
  return 0;
}

char *
control_default_target (const struct segment *s, const char *name,
                        struct error *e)
{
  CLEANUP_FREE char *segment = realpath (s->path, NULL);
  CLEANUP_FREE char *private = NULL;
  char *slash, *target = NULL;
  int r = -1;

  if (segment && (slash = strrchr (segment, '/')) != NULL) {
    *slash = '\0';
    if (!segment_is_volatile (s) &&
        directory_is_closed (slash == segment ? "/" : segment))
      r = asprintf (&target, "%s/%s.cow", segment, name);
    else if (asprintf (&private, "/var/tmp/nbdkit-cbw-%u",
                       (unsigned) geteuid ()) != -1) {
      if (make_private_directory (private, e) == -1)
        return NULL;
      r = asprintf (&target, "%s/%s-%s.cow", private, slash + 1, name);
    }
  }
  if (r == -1) {
    error_set_errno (e, errno, "%s", s->path);
    return NULL;
  }
  return target;
}
