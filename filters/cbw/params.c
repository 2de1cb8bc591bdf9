/* SPDX-License-Identifier: BSD-3-Clause */

/* Parsing the filter's parameters, for cbw.c.  Nothing is opened or made here;
 * what is wrong is said before nbdkit starts to serve.
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "image/nbd/nbd.h"
#include "params.h"
#include "segment/layout.h"
#include "segment/segment.h"
#include "segment/entry.h"
#include "snapshot/policy.h"
#include "utils/parse.h"
#include "utils/rounding.h"

#define THREADS_MAX 64
#define WRITEBACK_MIN (1024 * 1024)

const char params_help[] =
  "cbw-shm=NAME|PATH       (required) The shared-memory segment.\n"
  "cbw-target=FILE|URI|[ COMMAND ]\n"
  "                        Take a snapshot at start; old data goes here.\n"
  "cbw-commands=on|off     Run commands that cbwctl names as targets (default:\n"
  "                        off; with on, users of the segment can run any).\n"
  "cbw-snapshot=NAME       Name of that snapshot (default: snapshot).\n"
  "cbw-cluster-size=SIZE   Granularity of copies, 4k to 4M (default: 4k, for\n"
  "                        disks of more than 64 GiB up to 64k).\n"
  "cbw-on-error=break-snapshot|break-guest-write\n"
  "                        What a failed copy does (default: break-snapshot).\n"
  "cbw-timeout=SECS        A copy that takes longer fails (default: no limit).\n"
  "cbw-full=stall:SECS     How long guests' writes wait for space in a full\n"
  "                        target before that counts as failed (default: 0).\n"
  "cbw-quota=SIZE          How much the target may hold (default: no limit).\n"
  "cbw-writeback=SIZE      Guests' writes wait only until their old data is in a\n"
  "                        buffer of this size (default: 0, none).\n"
  "cbw-access=FILE         Only these areas may be read: lines OFFSET LENGTH\n"
  "                        (default: everything).\n"
  "cbw-threads=N           Service threads, 1 to 64 (default: 8).\n"
  "cbw-track=on|off        Mark what guests change, for incremental backups\n"
  "                        (default: on).\n"
  "cbw-durable=on|off      Keep that on disk, for when the host goes down\n"
  "                        (default: off; needs a segment on a disk).\n"
  "cbw-direct=auto|off     Let programs that read snapshots read the disk's file\n"
  "                        themselves, if it is known (default: auto).\n"
  "cbw-export=NAME         The export to protect (default: all are the disk).";

static int
set_path (char **field, const char *key, const char *value)
{
  char *path;

  if (value[0] == '\0') {
    nbdkit_error ("%s: the file name is empty", key);
    return -1;
  }
  path = nbdkit_absolute_path (value);
  if (path == NULL)
    return -1;
  free (*field);
  *field = path;
  return 1;
}

static int
set_shm (struct params *p, const char *value)
{
  struct error e;

  if (strchr (value, '/'))
    return set_path (&p->shm, "cbw-shm", value);
  free (p->shm);
  p->shm = segment_path (value, &e);
  if (p->shm == NULL) {
    nbdkit_error ("cbw-shm: %s", e.msg);
    return -1;
  }
  return 1;
}

static int
set_target (struct params *p, const char *value)
{
  if (!image_nbd_is_name (value)) {
    if (strstr (value, "://")) {
      nbdkit_error ("cbw-target=%s: is neither a file nor the URI of an NBD "
                    "server; name it ./FILE if this really is a file", value);
      return -1;
    }
    return set_path (&p->target, "cbw-target", value);
  }
  free (p->target);
  p->target = strdup (value);
  if (p->target == NULL) {
    nbdkit_error ("strdup: %m");
    return -1;
  }
  return 1;
}

static int
set_snapshot (struct params *p, const char *value)
{
  struct error e;

  if (entry_check_name (value, &e) == -1) {
    nbdkit_error ("cbw-snapshot: %s", e.msg);
    return -1;
  }
  p->snapshot = value;
  return 1;
}

static int
set_cluster_size (struct params *p, const char *value)
{
  int64_t size = nbdkit_parse_size (value);

  if (size == -1) {             /* which said why, but not of what */
    nbdkit_error ("cbw-cluster-size=%s: is not a size", value);
    return -1;
  }
  if (size < CBW_CLUSTER_SIZE_MIN || size > CBW_CLUSTER_SIZE_MAX ||
      !is_power_of_2 ((uint64_t) size)) {
    nbdkit_error ("cbw-cluster-size=%s: must be a power of two "
                  "between 4k and 4M", value);
    return -1;
  }
  p->cluster_size = (uint32_t) size;
  return 1;
}

static int
set_threads (struct params *p, const char *value)
{
  if (nbdkit_parse_unsigned ("cbw-threads", value, &p->threads) == -1)
    return -1;
  if (p->threads < 1 || p->threads > THREADS_MAX) {
    nbdkit_error ("cbw-threads=%s: must be between 1 and %d", value,
                  THREADS_MAX);
    return -1;
  }
  return 1;
}

/* These are of the snapshot that cbw-target= takes. */
static int
params_check_target (const struct params *p)
{
  const char *key = p->access ? "cbw-access" :
    p->options.timeout_ns ? "cbw-timeout" :
    p->options.stall_ns ? "cbw-full" :
    p->options.quota ? "cbw-quota" :
    p->options.on_error ? "cbw-on-error" : NULL;

  if (p->target || key == NULL)
    return 0;
  nbdkit_error ("%s goes with cbw-target: it is for the snapshot taken at "
                "start; cbwctl create has an option for others", key);
  return -1;
}

static int
set_on_error (struct params *p, const char *value)
{
  if (strcmp (value, "break-snapshot") == 0)
    p->options.on_error = CBW_ON_ERROR_BREAK_SNAPSHOT;
  else if (strcmp (value, "break-guest-write") == 0)
    p->options.on_error = CBW_ON_ERROR_BREAK_GUEST_WRITE;
  else {
    nbdkit_error ("cbw-on-error=%s: the policy must be break-snapshot or "
                  "break-guest-write", value);
    return -1;
  }
  return 1;
}

static int
set_seconds (uint64_t *ns, const char *key, const char *value,
             const char *secs)
{
  struct error e;

  if (parse_seconds (secs, ns, &e) == -1) {
    nbdkit_error ("%s=%s: %s", key, value, e.msg);
    return -1;
  }
  return 1;
}

static int
set_full (struct params *p, const char *value)
{
  if (strncmp (value, "stall:", 6) == 0)
    return set_seconds (&p->options.stall_ns, "cbw-full", value, value + 6);
  nbdkit_error ("cbw-full=%s: must be stall:SECS", value);
  return -1;
}

static int
set_quota (struct params *p, const char *value)
{
  const int64_t size = nbdkit_parse_size (value);

  if (size <= 0) {
    nbdkit_error ("cbw-quota=%s: is not a size", value);
    return -1;
  }
  p->options.quota = (uint64_t) size;
  return 1;
}

static int
set_writeback (struct params *p, const char *value)
{
  const int64_t size = nbdkit_parse_size (value);

  if (size == -1) {
    nbdkit_error ("cbw-writeback=%s: is not a size", value);
    return -1;
  }
  if (size != 0 && (size < WRITEBACK_MIN ||
                    (uint64_t) size > CBW_WRITEBACK_MAX)) {
    nbdkit_error ("cbw-writeback=%s: must be 0 (none), or between 1M and 16G",
                  value);
    return -1;
  }
  p->writeback = (uint64_t) size;
  return 1;
}

static int
set_bool (bool *to, const char *key, const char *value)
{
  const int on = nbdkit_parse_bool (value);

  if (on == -1) {               /* which said why, but not of what */
    nbdkit_error ("%s=%s: must be on or off", key, value);
    return -1;
  }
  *to = on;
  return 1;
}

static int
set_direct (struct params *p, const char *value)
{
  if (strcmp (value, "auto") == 0)
    p->direct = true;
  else if (strcmp (value, "off") == 0)
    p->direct = false;
  else {
    nbdkit_error ("cbw-direct=%s: must be auto or off", value);
    return -1;
  }
  return 1;
}

int
params_parse (struct params *p, const char *key, const char *value)
{
  if (strcmp (key, "cbw-shm") == 0)
    return set_shm (p, value);
  if (strcmp (key, "cbw-target") == 0)
    return set_target (p, value);
  if (strcmp (key, "cbw-commands") == 0)
    return set_bool (&p->commands, key, value);
  if (strcmp (key, "cbw-track") == 0)
    return set_bool (&p->track, key, value);
  if (strcmp (key, "cbw-durable") == 0)
    return set_bool (&p->durable, key, value);
  if (strcmp (key, "cbw-direct") == 0)
    return set_direct (p, value);
  if (strcmp (key, "cbw-snapshot") == 0)
    return set_snapshot (p, value);
  if (strcmp (key, "cbw-cluster-size") == 0)
    return set_cluster_size (p, value);
  if (strcmp (key, "cbw-threads") == 0)
    return set_threads (p, value);
  if (strcmp (key, "cbw-export") == 0) {
    p->export = value;
    return 1;
  }
  if (strcmp (key, "cbw-on-error") == 0)
    return set_on_error (p, value);
  if (strcmp (key, "cbw-timeout") == 0)
    return set_seconds (&p->options.timeout_ns, key, value, value);
  if (strcmp (key, "cbw-full") == 0)
    return set_full (p, value);
  if (strcmp (key, "cbw-quota") == 0)
    return set_quota (p, value);
  if (strcmp (key, "cbw-writeback") == 0)
    return set_writeback (p, value);
  if (strcmp (key, "cbw-access") == 0)
    return set_path (&p->access, key, value);
  if (strncmp (key, "cbw-", 4) == 0) {
    nbdkit_error ("unknown parameter %s of the cbw filter "
                  "(nbdkit --help --filter=cbw PLUGIN lists them)", key);
    return -1;
  }
  return 0;
}

int
params_complete (const struct params *p)
{
  if (p->shm == NULL) {
    nbdkit_error ("cbw-shm=NAME|PATH is required: "
                  "the segment shared with nbdkit snapshot-access");
    return -1;
  }
  if (p->target && strlen (p->target) >= CBW_TARGET_MAX) {
    nbdkit_error ("cbw-target: it is longer than %d bytes",
                  CBW_TARGET_MAX - 1);
    return -1;
  }
  if (p->durable && !p->track) {
    nbdkit_error ("cbw-durable=on does not go with cbw-track=off: there is "
                  "nothing to keep");
    return -1;
  }
  if (p->writeback && !policy_allows_writeback (&p->options)) {
    nbdkit_error ("cbw-writeback does not go with "
                  "cbw-on-error=break-guest-write: guests' writes end before "
                  "their old data is in the target");
    return -1;
  }
  return params_check_target (p);
}

void
params_free (struct params *p)
{
  free (p->shm);
  free (p->target);
  free (p->access);
}
