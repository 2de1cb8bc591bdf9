/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl status: shows the values as text for a person. */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "status.h"
#include "utils/clock.h"

static uint64_t
since (const struct status *s, uint64_t then_ns)
{
  return s->now_ns > then_ns ? s->now_ns - then_ns : 0;
}

static void
print_server (const struct status *s)
{
  char a[FORMAT_MAX], text[FORMAT_TEXT_MAX];

  if (s->alive) {
    printf ("  server     running for %s: process %" PRIu32
            ", number %" PRIu64 " on this segment\n",
            format_duration (since (s, s->start_ns), a), s->pid,
            s->generation);
    return;
  }
  printf ("  server     %s: process %" PRIu32 ", started %s\n",
          s->clean ? "stopped" : "dead, without a clean end", s->pid,
          format_date (s->start_ns, a));
  printf ("             to continue, start nbdkit --filter=cbw with cbw-shm=%s "
          "on the same disk\n", format_text (s->path, text));
}

static void
print_disk (const struct status *s)
{
  const struct cbw_geometry *g = &s->geometry;
  char a[FORMAT_MAX], b[FORMAT_MAX];

  printf ("  disk       %s (%" PRIu64 " bytes), clusters of %s\n",
          format_size (g->disk_size, a), g->disk_size,
          format_size (g->cluster_size, b));
}

static void
print_writeback (const struct status *s)
{
  const struct cbw_geometry *g = &s->geometry;
  char a[FORMAT_MAX], b[FORMAT_MAX];

  if (g->nr_cells)
    printf ("  write-back %s of %s wait to be written to the target\n",
            format_size (s->cells_used * g->cluster_size, a),
            format_size ((uint64_t) g->nr_cells * g->cluster_size, b));
}

static void
print_requests (const struct status *s)
{
  char a[FORMAT_MAX];

  printf ("  requests   %u waiting, %u running; %" PRIu64 " done, %s read",
          s->slots[SLOT_SUBMITTED], s->slots[SLOT_RUNNING], s->requests,
          format_size (s->read_bytes, a));
  if (s->reaped)
    printf (", %" PRIu64 " taken from clients that died", s->reaped);
  printf ("\n");
}

static void
print_clients (const struct status *s)
{
  const struct status_client *c;
  char a[FORMAT_MAX], text[FORMAT_TEXT_MAX];
  unsigned i, n = 0;

  for (i = 0; i < s->nr_clients; ++i) {
    c = &s->clients[i];
    if (c->alive)
      printf ("  %s    %s: process %" PRIu32 ", for %s\n",
              n++ == 0 ? "clients" : "       ", format_text (c->name, text),
              c->pid, format_duration (since (s, c->start_ns), a));
  }
  if (n == 0)
    printf ("  clients    none\n");
}

static void
print_snapshot_count (const struct status *s)
{
  const unsigned visible = status_visible (s);

  printf ("  snapshots  %u of at most %u", visible, CBW_NR_SNAPSHOTS);
  if (s->nr_snapshots > visible)
    printf (", and %u that cannot be read but take a place",
            s->nr_snapshots - visible);
  if (s->nr_damaged)
    printf (", and %u damaged: see cbwctl check", s->nr_damaged);
  printf ("\n");
}

static void
print_policy (const struct status_snapshot *snap)
{
  const struct cbw_options *o = &snap->options;
  char a[FORMAT_MAX], b[FORMAT_MAX];

  printf ("  on error   %s", status_policy_name (snap));
  if (o->timeout_ns)
    printf ("; timeout %g s", (double) o->timeout_ns / NS_PER_SEC);
  if (o->stall_ns)
    printf ("; if full, wait %g s", (double) o->stall_ns / NS_PER_SEC);
  if (o->quota)
    printf ("; quota %s, of which %s", format_size (o->quota, a),
            format_size (snap->held_bytes, b));
  printf ("\n");
}

/* How a backup stands. */
static void
print_job (const struct status *s, const struct status_snapshot *snap)
{
  const uint64_t left = status_left_ns (s, snap);
  char a[FORMAT_MAX];

  printf ("  backup     %s, %s of the image", status_job_name (snap),
          format_percent (status_settled (snap), snap->clusters, a));
  if (snap->job.speed)
    printf ("; at most %s/s", format_size (snap->job.speed, a));
  if (left)
    printf ("; about %s left", format_duration (left, a));
  printf ("\n");
  if (snap->job.errors)
    printf ("             %" PRIu32 " errors; the first was %s the %s at "
            "offset %" PRIu64 ": %s\n", snap->job.errors,
            snap->job.error_is_read ? "reading" : "writing",
            snap->job.error_is_read ? "disk" : "image",
            snap->job.error_offset, strerror (snap->job.error_num));
}

static void
print_point_count (const struct status *s)
{
  unsigned i, checkpoints = 0;

  if (s->nr_points + s->nr_damaged_points == 0)
    return;
  for (i = 0; i < s->nr_points; ++i)
    checkpoints += !s->points[i].has_snapshot;
  printf ("  points     %u of at most %u, of which %u %s", s->nr_points,
          CBW_NR_POINTS, checkpoints,
          checkpoints == 1 ? "is a checkpoint" : "are checkpoints");
  if (s->nr_damaged_points)
    printf (", and %u damaged: see cbwctl check", s->nr_damaged_points);
  printf ("\n");
}

/* How much has changed since a point. */
static void
print_changed (const struct status *s, const struct status_point *p)
{
  char a[FORMAT_MAX], b[FORMAT_MAX], text[FORMAT_TEXT_MAX];

  if (status_invalid (p))
    printf ("  changed    not known any more: %s;\n"
            "             make a full copy\n", status_invalid (p));
  else if (p->is_counted)
    printf ("  changed    %s since then (%s of the disk)\n",
            format_size (p->changed_bytes, a),
            format_percent (p->changed_bytes, s->disk_size, b));
  else
    printf ("  changed    unknown: %s\n", format_text (s->not_counted, text));
}

static void
print_checkpoint (const struct status *s, const struct status_point *p)
{
  char a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX], text[FORMAT_TEXT_MAX];

  printf ("\n%s: checkpoint%s, %s\n", format_text (p->point.name, text),
          p->point.flags & CBW_POINT_BACKUP ? " of a backup" : "",
          status_invalid (p) ? "invalid" : "valid");
  printf ("  made       %s, %s ago; the disk had %s\n",
          format_date (p->point.created_ns, a),
          format_duration (since (s, p->point.created_ns), b),
          format_size (p->point.size, c));
  print_changed (s, p);
}

static void
print_snapshot (const struct status *s, const struct status_snapshot *snap)
{
  char a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX], text[FORMAT_TEXT_MAX];
  const struct status_point *point = status_find_point (s, snap->info.id);
  char state[256];

  entry_describe (&snap->info, state, sizeof state);
  printf ("\n%s: %s", format_text (snap->info.name, text), state);
  if (snap->info.error_num != 0 && snap->info.state != CBW_SNAPSHOT_HIDDEN)
    printf (" (%s)", format_date (snap->error_ns, a));
  printf ("\n  taken      %s, %s ago; the disk had %s%s\n",
          format_date (snap->info.created_ns, a),
          format_duration (since (s, snap->info.created_ns), b),
          format_size (snap->info.size, c),
          snap->owned ? "; to be dropped when its client ends" : "");
  printf ("  copied     %" PRIu64 " of %" PRIu64 " clusters (%s), %s written\n",
          snap->copied_clusters, snap->clusters,
          format_percent (snap->copied_clusters, snap->clusters, a),
          format_size (snap->copied_bytes, b));
  printf ("  target     %s: ", format_text (snap->target, text));
  if (!snap->target_is_file)
    printf ("%s written, room unknown\n",
            format_size (snap->held_bytes, a));
  else if (snap->target_found)
    printf ("%s used, %s free in its file system\n",
            format_size (snap->target_used, a),
            format_size (snap->target_free, b));
  else
    printf ("missing, or another file than it was\n");
  if (point)
    print_changed (s, point);
  print_policy (snap);
  if (snap->options.backup)
    print_job (s, snap);
  if (status_stalled_ns (s, snap))
    printf ("  STALLED    the target is full: guests' writes wait for space, "
            "for %s more\n"
            "             make room, or drop a snapshot: cbwctl drop %s NAME\n",
            format_duration (status_stalled_ns (s, snap) + NS_PER_SEC - 1, a),
            format_text (s->path, text));
}

void
status_print_text (const struct status *s)
{
  char text[FORMAT_TEXT_MAX];
  unsigned i;

  printf ("%s\n", format_text (s->path, text));
  print_server (s);
  print_disk (s);
  print_writeback (s);
  print_requests (s);
  print_clients (s);
  print_snapshot_count (s);
  print_point_count (s);
  for (i = 0; i < s->nr_snapshots; ++i)
    print_snapshot (s, &s->snapshots[i]);
  for (i = 0; i < s->nr_points; ++i)
    if (!s->points[i].has_snapshot)
      print_checkpoint (s, &s->points[i]);
}
