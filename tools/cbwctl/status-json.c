/* SPDX-License-Identifier: BSD-3-Clause */

/* Fields are called as in qemu-img info and the QMP schema where those
 * have them; times are in nanoseconds since the epoch or as date-sec and
 * date-nsec.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "status.h"
#include "utils/clock.h"

static void
add_uint (struct json_object *o, const char *key, uint64_t v)
{
  json_object_object_add (o, key, json_object_new_uint64 (v));
}

static void
add_bool (struct json_object *o, const char *key, bool v)
{
  json_object_object_add (o, key, json_object_new_boolean (v));
}

static void
add_text (struct json_object *o, const char *key, const char *text)
{
  json_object_object_add (o, key, json_text (text));
}

static void
add_double (struct json_object *o, const char *key, double v)
{
  json_object_object_add (o, key, json_object_new_double (v));
}

static void
add_date (struct json_object *o, uint64_t ns)
{
  add_uint (o, "date-sec", ns / NS_PER_SEC);
  add_uint (o, "date-nsec", ns % NS_PER_SEC);
}

static struct json_object *
json_server (const struct status *s)
{
  struct json_object *o = json_object_new_object ();

  add_bool (o, "alive", s->alive);
  add_text (o, "state", s->alive ? "running" : s->clean ? "stopped" : "dead");
  add_uint (o, "pid", s->pid);
  add_date (o, s->start_ns);
  if (s->alive)
    add_uint (o, "uptime-ns",
              s->now_ns > s->start_ns ? s->now_ns - s->start_ns : 0);
  add_uint (o, "generation", s->generation);
  return o;
}

static struct json_object *
json_target (const struct status_snapshot *snap)
{
  struct json_object *o = json_object_new_object ();

  add_text (o, "filename", snap->target);
  add_text (o, "format", snap->target_is_file ? "raw" : "nbd");
  if (snap->target_is_file)
    add_bool (o, "found", snap->target_found);
  if (snap->target_found) {
    add_uint (o, "actual-size", snap->target_used);
    add_uint (o, "available", snap->target_free);
  }
  return o;
}

static struct json_object *
json_error (const struct status_snapshot *snap)
{
  static const char *const reasons[] = {
    [CBW_BROKEN_COPY] = "copy",
    [CBW_BROKEN_REBOOT] = "reboot",
    [CBW_BROKEN_TARGET] = "target",
    [CBW_BROKEN_SOURCE] = "source",
  };
  const unsigned reason = snap->info.error_reason;
  struct json_object *o = json_object_new_object ();
  char desc[256];

  entry_describe (&snap->info, desc, sizeof desc);
  add_text (o, "desc", desc);
  add_text (o, "reason", reason < sizeof reasons / sizeof reasons[0] &&
            reasons[reason] ? reasons[reason] : "unknown");
  json_object_object_add (o, "errno",
                          json_object_new_int (snap->info.error_num));
  add_uint (o, "offset", snap->info.error_offset);
  add_date (o, snap->error_ns);
  return o;
}

/* What was asked for when it was made, and whether guests wait. */
static void
add_policy (struct json_object *o, const struct status *s,
            const struct status_snapshot *snap)
{
  add_text (o, "on-cbw-error", status_policy_name (snap));
  add_double (o, "cbw-timeout",
              (double) snap->options.timeout_ns / NS_PER_SEC);
  add_double (o, "full-stall", (double) snap->options.stall_ns / NS_PER_SEC);
  if (snap->options.quota)
    add_uint (o, "quota", snap->options.quota);
  add_bool (o, "stalled", status_stalled_ns (s, snap) > 0);
  if (status_stalled_ns (s, snap))
    add_uint (o, "stalled-left-ns", status_stalled_ns (s, snap));
}

/* As QEMU's query-jobs and query-block-jobs have it. */
static struct json_object *
json_job (const struct status *s, const struct status_snapshot *snap)
{
  static const char *const policies[] = {
    [CBW_FILL_REPORT] = "report", [CBW_FILL_IGNORE] = "ignore",
    [CBW_FILL_STOP] = "stop", [CBW_FILL_ENOSPC] = "enospc",
  };
  const struct cbw_job *job = &snap->job;
  struct json_object *o = json_object_new_object (), *e;

  add_text (o, "type",
            job->kind == CBW_JOB_BACKUP ? "backup" : "unknown");
  add_text (o, "status", status_job_name (snap));
  add_uint (o, "len", snap->info.size);
  add_uint (o, "offset", status_settled (snap) == snap->clusters ?
            snap->info.size : status_settled (snap) *
            s->geometry.cluster_size);
  json_increment (o, &snap->increment);
  add_uint (o, "speed", job->speed);
  if (status_left_ns (s, snap))
    add_uint (o, "left-ns", status_left_ns (s, snap));
  add_text (o, "on-source-error",
            policies[snap->options.on_source_error & 3]);
  add_text (o, "on-target-error",
            policies[snap->options.on_target_error & 3]);
  add_uint (o, "errors", job->errors);
  if (job->errors) {
    e = json_object_new_object ();
    add_text (e, "operation", job->error_is_read ? "read" : "write");
    json_object_object_add (e, "errno",
                            json_object_new_int (job->error_num));
    add_uint (e, "offset", job->error_offset);
    add_date (e, job->error_ns);
    json_object_object_add (o, "error", e);
  }
  return o;
}

static struct json_object *
json_snapshot (const struct status *s, const struct status_snapshot *snap)
{
  struct json_object *o = json_object_new_object ();

  add_text (o, "name", snap->info.name);
  add_uint (o, "id", snap->info.id);
  add_text (o, "state", status_state_name (snap));
  if (snap->info.error_num != 0)
    json_object_object_add (o, "error", json_error (snap));
  add_policy (o, s, snap);
  add_date (o, snap->info.created_ns);
  add_uint (o, "age-ns", s->now_ns > snap->info.created_ns ?
            s->now_ns - snap->info.created_ns : 0);
  add_bool (o, "owned", snap->owned);
  add_uint (o, "virtual-size", snap->info.size);
  add_uint (o, "clusters", snap->clusters);
  add_uint (o, "copied-clusters", snap->copied_clusters);
  add_uint (o, "copied-bytes", snap->copied_bytes);
  add_uint (o, "held-bytes", snap->held_bytes);
  json_object_object_add (o, "copied-percent", json_object_new_double
                          (snap->clusters ? 100.0 *
                           (double) snap->copied_clusters /
                           (double) snap->clusters : 0.0));
  if (snap->options.backup)
    json_object_object_add (o, "job", json_job (s, snap));
  json_object_object_add (o, "target", json_target (snap));
  return o;
}

static struct json_object *
json_point (const struct status *s, const struct status_point *p)
{
  struct json_object *o = json_object_new_object ();
  const bool counted = status_is_counted (p);

  add_text (o, "name", p->point.name);
  add_uint (o, "id", p->point.id);
  add_text (o, "kind", status_kind_name (p));
  add_text (o, "state", status_invalid (p) ? "invalid" : "valid");
  json_object_object_add (o, "reason", status_invalid (p) ?
                          json_text (status_invalid (p)) : NULL);
  add_date (o, p->point.created_ns);
  add_uint (o, "age-ns", s->now_ns > p->point.created_ns ?
            s->now_ns - p->point.created_ns : 0);
  add_uint (o, "virtual-size", p->point.size);
  json_object_object_add (o, "changed-bytes", counted ?
                          json_object_new_uint64 (p->changed_bytes) : NULL);
  json_object_object_add (o, "changed-percent", counted ?
                          json_object_new_double
                          (s->disk_size ? 100.0 * (double) p->changed_bytes /
                           (double) s->disk_size : 0.0) : NULL);
  return o;
}

static struct json_object *
json_client (const struct status_client *c)
{
  struct json_object *o = json_object_new_object ();

  add_uint (o, "index", c->index);
  add_text (o, "name", c->name);
  add_uint (o, "pid", c->pid);
  add_bool (o, "alive", c->alive);
  add_date (o, c->start_ns);
  return o;
}

static struct json_object *
json_requests (const struct status *s)
{
  static const char *const names[STATUS_SLOT_STATES] = {
    [SLOT_FREE] = "free", [SLOT_CLAIMED] = "claimed",
    [SLOT_SUBMITTED] = "submitted", [SLOT_RUNNING] = "running",
    [SLOT_DONE] = "done",
  };
  struct json_object *o = json_object_new_object ();
  unsigned i;

  for (i = 0; i < STATUS_SLOT_STATES; ++i)
    add_uint (o, names[i], s->slots[i]);
  return o;
}

static struct json_object *
json_writeback (const struct status *s)
{
  const struct cbw_geometry *g = &s->geometry;
  struct json_object *o = json_object_new_object ();

  add_uint (o, "size", (uint64_t) g->nr_cells * g->cluster_size);
  add_uint (o, "used", s->cells_used * g->cluster_size);
  return o;
}

static struct json_object *
json_counters (const struct status *s)
{
  struct json_object *o = json_object_new_object ();

  add_uint (o, "requests", s->requests);
  add_uint (o, "read-bytes", s->read_bytes);
  add_uint (o, "reaped", s->reaped);
  return o;
}

static void
format_uuid (const uint8_t uuid[16], char text[37])
{
  unsigned i;

  for (i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      *text++ = '-';
    text += sprintf (text, "%02x", uuid[i]);
  }
}

void
status_print_json (const struct status *s, bool line)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *snapshots = json_object_new_array ();
  struct json_object *points = json_object_new_array ();
  struct json_object *clients = json_object_new_array ();
  char uuid[37];
  unsigned i;

  for (i = 0; i < s->nr_snapshots; ++i)
    json_object_array_add (snapshots, json_snapshot (s, &s->snapshots[i]));
  for (i = 0; i < s->nr_points; ++i)
    json_object_array_add (points, json_point (s, &s->points[i]));
  for (i = 0; i < s->nr_clients; ++i)
    json_object_array_add (clients, json_client (&s->clients[i]));

  add_text (o, "filename", s->path);
  format_uuid (s->uuid, uuid);
  add_text (o, "uuid", uuid);
  add_date (o, s->now_ns);
  add_uint (o, "virtual-size", s->geometry.disk_size);
  add_uint (o, "cluster-size", s->geometry.cluster_size);
  json_object_object_add (o, "server", json_server (s));
  if (s->geometry.nr_cells)
    json_object_object_add (o, "writeback", json_writeback (s));
  json_object_object_add (o, "snapshots", snapshots);
  add_uint (o, "damaged-snapshots", s->nr_damaged);
  json_object_object_add (o, "points", points);
  add_uint (o, "damaged-points", s->nr_damaged_points);
  json_object_object_add (o, "clients", clients);
  json_object_object_add (o, "requests", json_requests (s));
  json_object_object_add (o, "counters", json_counters (s));
  (line ? json_print_line : json_print) (o);
  json_object_put (o);
}
