/* SPDX-License-Identifier: BSD-3-Clause */

/* Control requests as the filter checks them: nothing is done that is not
 * wholly understood, and the reply says why.
 */

#include <config.h>

#include <errno.h>

#include "engine-env.h"
#include "segment-env.h"
#include "segment/slots.h"
#include "segment/entry.h"
#include "service/serve-control.h"
#include "unit.h"
#include "utils/clock.h"

#define CS 4096
#define SIZE (10 * CS)

static char *target;
static struct env env;          /* its disk and source alone */
static struct engine engine;
static struct segment segment;
static struct disk disk = { .size = SIZE };

static void
start (void)
{
  segment_env_start ();
  CHECK (asprintf (&target, "%s/target", segment_env.dir) != -1);
  env_start_bare (&env, SIZE, CS, 1);
  segment_env_serve (&segment, SIZE, CS);
  engine_init (&engine);
  table_attach (&engine.table, map_snapshot (&segment.map, 0));
  engine_set_source (&engine, &env.source);
  segment_env_publish (&segment);
}

static void
end (void)
{
  engine_stop (&engine);
  CHECK (engine_join (&engine, now_monotonic_ns () + 30 * NS_PER_SEC));
  engine_free (&engine);
  segment_close (&segment, true);
  env_end (&env);
  free (target);
  segment_env_end ();
}

/* What a good client sends. */
static struct cbw_control
good (void)
{
  struct cbw_control rq = { .name = "snap", .uuid = "0123456789abcde" };

  strcpy (rq.target, target);
  return rq;
}

static int
create (struct cbw_control *rq, bool backup)
{
  const struct source source = source_of_disk (&disk);

  return serve_create (&engine, &segment, &source, SLOT_OWNER_NONE, backup,
                       rq);
}

/* The request is refused, with that message, and nothing is made. */
static void
refused (struct cbw_control rq, bool backup, const char *text)
{
  struct snapshot_info info;
  const int r = create (&rq, backup);

  unit_check_error (__FILE__, __LINE__, r, rq.message, EINVAL, text);
  CHECK (!entry_find (&segment.map, "snap", &info));
  CHECK (access (target, F_OK) == -1);
}

/* Each of these is a request of a program that wants something else. */
static void
test_unknown (void)
{
  struct cbw_control rq;

  start ();
#define BAD(field, value, backup, text)                                 \
  do {                                                                  \
    rq = good ();                                                       \
    rq.field = (value);                                                 \
    refused (rq, (backup), (text));                                     \
  } while (0)
  BAD (flags, 8, false, "unknown flags 0x8");
  BAD (flags, CBW_CREATE_SINCE, false, "has no older image");
  BAD (flags, 0x80000001, true, "unknown flags 0x80000001");
  BAD (options.reserved, 1, false, "unknown options of a snapshot");
  BAD (options.reserved, 255, true, "unknown options of a backup");
  BAD (options.backup, 1, false, "unknown options of a snapshot");
  BAD (options.backup, 2, true, "unknown options of a backup");
  BAD (options.on_error, 2, false, "unknown policy 2 for errors");
  BAD (options.on_error, UINT32_MAX, true, "unknown policy 4294967295");
  BAD (options.on_source_error, 4, true, "unknown policy 4");
  BAD (options.on_target_error, 255, true, "unknown policy 255");
  BAD (options.on_target_error, 4, false, "unknown policy 4");
  BAD (options.on_source_error, 1, false, "no policies of one");
  BAD (options.quota, 1, true, "neither an access file nor a quota");
  BAD (access[0], '/', true, "neither an access file nor a quota");
  BAD (options.timeout_ns, UINT64_MAX, false, "a time limit of more than");
  BAD (options.stall_ns, UINT64_MAX, true, "a time limit of more than");
  BAD (hold_ns, CBW_HOLD_MAX + 1, false, "held for more than 10 seconds");
  BAD (hold_ns, UINT64_MAX, true, "held for more than 10 seconds");
#undef BAD
  end ();
}

static void
test_good (void)
{
  struct cbw_control rq;
  struct snapshot_info info;

  start ();
  rq = good ();
  rq.flags = CBW_CREATE_FORCE;
  rq.options.on_error = CBW_ON_ERROR_BREAK_GUEST_WRITE;
  rq.hold_ns = CBW_HOLD_MAX;
  CHECK_EQ (create (&rq, false), 0);
  CHECK_EQ (rq.message[0], 0);
  CHECK (entry_find (&segment.map, "snap", &info));

  rq = good ();
  rq.hold_ns = CBW_HOLD_MAX + 1;
  CHECK_EQ (serve_drop (&engine, &segment, info.id, &rq), EINVAL);
  CHECK (strstr (rq.message, "held for more than 10 seconds"));
  CHECK (entry_find (&segment.map, "snap", &info));
  rq.hold_ns = NS_PER_SEC;
  CHECK_EQ (serve_drop (&engine, &segment, info.id, &rq), 0);
  CHECK (!entry_find (&segment.map, "snap", &info));
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_unknown);
  RUN (test_good);
  return unit_end ();
}
