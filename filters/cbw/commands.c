/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "commands.h"
#include "lifecycle.h"
#include "nbd.h"
#include "parse.h"
#include "slots.h"
#include "snaptab.h"

/* Our own copy of the request: the client may write while we look. */
static struct cbw_control
copy_request (const void *buf)
{
  struct cbw_control rq;

  memcpy (&rq, buf, sizeof rq);
  rq.name[sizeof rq.name - 1] = '\0';
  rq.target[sizeof rq.target - 1] = '\0';
  rq.access[sizeof rq.access - 1] = '\0';
  rq.held_ns = 0;
  memset (rq.message, 0, sizeof rq.message);
  return rq;
}

static int
reply (int r, const struct error *e, struct cbw_control *rq, void *buf)
{
  if (r == -1)
    memcpy (rq->message, e->msg, sizeof rq->message);
  memcpy (buf, rq, sizeof *rq);
  return r == -1 ? e->num : 0;
}

/* A target that a client names.  A command is run as us, so only our own
 * user may name one: who else may write to the segment could do so.
 */
static int
check_target (const struct segment *segment, const char *target,
              struct error *e)
{
  if (image_nbd_is_command (target) && !segment_is_private (segment))
    return error_set (e, EPERM, "%s: other users can write to %s, so a target "
                      "that is a command can be given with cbw-target= only",
                      target, segment->path);
  if (target[0] != '/' && !image_nbd_is_name (target))
    return error_set (e, EINVAL, "the path of a target must be absolute, "
                      "not \"%s\"", target);
  return 0;
}

static int
create (struct engine *engine, struct segment *segment, uint64_t disk_size,
        uint32_t owner, bool backup, struct cbw_control *rq, struct error *e)
{
  struct create_params p = {
    .name = rq->name,
    .target = rq->target,
    .access = rq->access[0] ? rq->access : NULL,
    .options = rq->options,
    .speed = rq->speed,
    .flags = rq->flags,
    .owner = rq->flags & CBW_CREATE_OWNED ? owner : 0,
  };

  /* Else it would be nobody's, and stay. */
  if ((rq->flags & CBW_CREATE_OWNED) && owner == SLOT_OWNER_NONE)
    return error_set (e, ESHUTDOWN, "who wanted the snapshot is gone");
  p.options.backup = backup;
  memcpy (p.uuid, rq->uuid, sizeof p.uuid);
  if (snaptab_check_name (rq->name, e) == -1)
    return -1;
  if (check_target (segment, rq->target, e) == -1)
    return -1;
  if (rq->access[0] != '\0' && rq->access[0] != '/')
    return error_set (e, EINVAL, "the path of an access file must be "
                      "absolute, not \"%s\"", rq->access);
  if (rq->options.on_error > CBW_ON_ERROR_BREAK_GUEST_WRITE)
    return error_set (e, EINVAL, "unknown policy %u", rq->options.on_error);
  if (rq->options.timeout_ns > SECONDS_MAX * NS_PER_SEC ||
      rq->options.stall_ns > SECONDS_MAX * NS_PER_SEC)
    return error_set (e, EINVAL, "a time limit of more than %d seconds",
                      SECONDS_MAX);
  if (backup && (p.access || p.options.quota ||
                 p.options.on_source_error > CBW_FILL_ENOSPC ||
                 p.options.on_target_error > CBW_FILL_ENOSPC))
    return error_set (e, EINVAL, "a backup is of the whole disk, and its "
                      "policies are report, ignore, stop and enospc");
  return create_snapshot (engine, segment, &p, disk_size, &rq->held_ns, e);
}

int
command_create (struct engine *engine, struct segment *segment,
                uint64_t disk_size, uint32_t owner, bool backup, void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (create (engine, segment, disk_size, owner, backup, &rq, &e),
                &e, &rq, buf);
}

int
command_drop (struct engine *engine, struct segment *segment, uint64_t id,
              void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (drop_snapshot (engine, segment, id, 0, &e), &e, &rq, buf);
}

int
command_job (struct engine *engine, uint64_t id, void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (fill_control (&engine->fill, id, rq.action, rq.speed, &e), &e,
                &rq, buf);
}
