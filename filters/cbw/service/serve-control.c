/* SPDX-License-Identifier: BSD-3-Clause */

/* Carrying out control requests.  A control thread calls this (service.c).
 *
 * The request is copied out of the shared buffer once; the copy is checked and
 * used.  Nothing is read from the buffer again.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "image/nbd/nbd.h"
#include "lifecycle/lifecycle.h"
#include "segment/slots.h"
#include "segment/entry.h"
#include "service/serve-control.h"
#include "utils/clock.h"
#include "utils/parse.h"

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

int
serve_refuse (const struct error *e, void *buf)
{
  struct cbw_control rq = copy_request (buf);

  return reply (-1, e, &rq, buf);
}

/* A target that a client names. */
static int
check_target (const struct engine *engine, const char *target,
              struct error *e)
{
  if (command_policy_client (&engine->commands, target, e) == -1)
    return -1;
  if (target[0] != '/' && !image_nbd_is_name (target))
    return error_set (e, EINVAL, "the path of a target must be absolute, "
                      "not \"%s\"", target);
  return 0;
}

/* What a later version may mean by something that this one does not know
 * must not be taken for something else.
 */
static int
check_options (const struct cbw_control *rq, bool backup, struct error *e)
{
  const struct cbw_options *o = &rq->options;

  if (rq->flags & ~CBW_CREATE_FLAGS)
    return error_set (e, EINVAL, "unknown flags 0x%" PRIx32, rq->flags);
  if (!backup && (rq->flags & CBW_CREATE_SINCE))
    return error_set (e, EINVAL, "a snapshot that is no backup has no older "
                      "image");
  if (o->reserved != 0 || o->backup > backup)
    return error_set (e, EINVAL, "unknown options of a %s",
                      backup ? "backup" : "snapshot");
  if (o->on_error > CBW_ON_ERROR_BREAK_GUEST_WRITE)
    return error_set (e, EINVAL, "unknown policy %" PRIu32 " for errors",
                      o->on_error);
  if (o->on_source_error > CBW_FILL_ENOSPC ||
      o->on_target_error > CBW_FILL_ENOSPC)
    return error_set (e, EINVAL, "unknown policy %u for errors of a backup",
                      o->on_source_error > CBW_FILL_ENOSPC ?
                      o->on_source_error : o->on_target_error);
  if (!backup && (o->on_source_error || o->on_target_error))
    return error_set (e, EINVAL, "a snapshot that is no backup has no "
                      "policies of one");
  if (backup && (rq->access[0] != '\0' || o->quota))
    return error_set (e, EINVAL, "a backup is of the whole disk: it has "
                      "neither an access file nor a quota");
  if (o->timeout_ns > SECONDS_MAX * NS_PER_SEC ||
      o->stall_ns > SECONDS_MAX * NS_PER_SEC)
    return error_set (e, EINVAL, "a time limit of more than %d seconds",
                      SECONDS_MAX);
  return 0;
}

static int
check_hold (const struct cbw_control *rq, struct error *e)
{
  if (rq->hold_ns > CBW_HOLD_MAX)
    return error_set (e, EINVAL, "guests cannot be held for more than %d "
                      "seconds", (int) (CBW_HOLD_MAX / NS_PER_SEC));
  return 0;
}

/* How often a snapshot is begun of a disk that grows meanwhile. */
#define CREATE_TRIES 3

/* Take a snapshot of the whole disk, which may have grown, and may grow while
 * that is prepared.
 */
static int
create_whole (struct engine *engine, struct segment *segment,
              const struct source *source, const struct create_params *p,
              uint64_t *held_ns, struct error *e)
{
  unsigned tries = CREATE_TRIES;
  int r;

  do {
    if (disk_look (source->disk, e) == -1)
      return -1;
    r = create_snapshot (engine, segment, p, disk_size (source->disk),
                         held_ns, e);
  } while (r == -1 && e->num == EAGAIN && --tries > 0);
  return r;
}

static int
create (struct engine *engine, struct segment *segment,
        const struct source *source, uint32_t owner, bool backup,
        struct cbw_control *rq, struct error *e)
{
  struct create_params p = {
    .name = rq->name,
    .target = rq->target,
    .access = rq->access[0] ? rq->access : NULL,
    .options = rq->options,
    .speed = rq->speed,
    .flags = rq->flags,
    .since = rq->since,
    .hold_ns = rq->hold_ns,
    .owner = rq->flags & CBW_CREATE_OWNED ? owner : 0,
  };

  /* Else it would be nobody's, and stay. */
  if ((rq->flags & CBW_CREATE_OWNED) && owner == SLOT_OWNER_NONE)
    return error_set (e, ESHUTDOWN, "the client that asked for the snapshot "
                      "is gone");
  p.options.backup = backup;
  memcpy (p.uuid, rq->uuid, sizeof p.uuid);
  if (entry_check_name (rq->name, e) == -1 ||
      check_options (rq, backup, e) == -1 || check_hold (rq, e) == -1 ||
      check_target (engine, rq->target, e) == -1)
    return -1;
  if (rq->access[0] != '\0' && rq->access[0] != '/')
    return error_set (e, EINVAL, "the path of an access file must be "
                      "absolute, not \"%s\"", rq->access);
  return create_whole (engine, segment, source, &p, &rq->held_ns, e);
}

int
serve_create (struct engine *engine, struct segment *segment,
              const struct source *source, uint32_t owner, bool backup,
              void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (create (engine, segment, source, owner, backup, &rq, &e), &e,
                &rq, buf);
}

/* The same of a checkpoint. */
static int
checkpoint (struct engine *engine, struct segment *segment,
            const struct source *source, struct cbw_control *rq,
            struct error *e)
{
  unsigned tries = CREATE_TRIES;
  int r;

  if (entry_check_name (rq->name, e) == -1 || check_hold (rq, e) == -1)
    return -1;
  do {
    if (disk_look (source->disk, e) == -1)
      return -1;
    r = create_checkpoint (engine, segment, rq->name, rq->uuid,
                           disk_size (source->disk), rq->hold_ns,
                           &rq->held_ns, e);
  } while (r == -1 && e->num == EAGAIN && --tries > 0);
  return r;
}

int
serve_checkpoint (struct engine *engine, struct segment *segment,
                  const struct source *source, void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (checkpoint (engine, segment, source, &rq, &e), &e, &rq, buf);
}

static int
drop (struct engine *engine, struct segment *segment, uint64_t id,
      const struct cbw_control *rq, struct error *e)
{
  if (rq->flags & ~CBW_DROP_KEEP_POINT)
    return error_set (e, EINVAL, "unknown flags 0x%" PRIx32, rq->flags);
  return check_hold (rq, e) == -1 ? -1 :
    drop_snapshot (engine, segment, id, rq->flags & CBW_DROP_KEEP_POINT,
                   rq->hold_ns, e);
}

int
serve_drop (struct engine *engine, struct segment *segment, uint64_t id,
            void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (drop (engine, segment, id, &rq, &e), &e, &rq, buf);
}

static int
job (struct engine *engine, uint64_t id, const struct cbw_control *rq,
     struct error *e)
{
  char name[CBW_NAME_MAX];

  if (fill_control (&engine->fill, id, rq->action, rq->speed, e) == 0)
    return 0;
  /* When it is complete it leaves. */
  return e->num == ENOENT && table_result (&engine->table, id, name) ?
    error_set (e, EALREADY, "backup \"%s\" is complete", name) : -1;
}

int
serve_job (struct engine *engine, uint64_t id, void *buf)
{
  struct cbw_control rq = copy_request (buf);
  struct error e;

  return reply (job (engine, id, &rq, &e), &e, &rq, buf);
}
