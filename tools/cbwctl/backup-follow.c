/* SPDX-License-Identifier: BSD-3-Clause */

/* Following a backup until it ends: progress, messages, the result as JSON,
 * and the exit status.  The server makes the backup; this code only looks at
 * its entry, so it may end at any time without harm.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup.h"
#include "cbwctl.h"
#include "format.h"
#include "request/control.h"
#include "segment/entry.h"
#include "term.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/ofdlock.h"
#include "utils/rounding.h"

#define INTERVAL (25 * NS_PER_MS)
#define BAR_COLUMNS 30

/* The rate shown is that of the last so many looks. */
#define RATE_LOOKS 80

/* How long the server may take to let go of the image. */
#define UNLOCK_WAIT (10 * NS_PER_SEC)

struct follow {
  struct client *client;
  struct cbw_snapshot entry;    /* as it was last seen */
  unsigned index;
  bool json, tty;
  bool stop_told;               /* that an error has stopped it */
  uint64_t start_ns;            /* monotonic */
  uint64_t settled[RATE_LOOKS], ns[RATE_LOOKS];
  unsigned looks;
};

enum seen { SEEN_RUNNING, SEEN_COMPLETE, SEEN_FAILED, SEEN_GONE };

uint64_t
backup_clusters (const struct cbw_map *m, const struct cbw_snapshot *entry)
{
  return layout_clusters (&m->geometry, entry->size);
}

uint64_t
backup_settled (const struct cbw_snapshot *entry)
{
  return entry->copied_clusters + entry->job.moved_clusters;
}

const char *
backup_error (const struct cbw_snapshot *entry, char *buf, size_t len)
{
  const struct cbw_job *job = &entry->job;

  if (job->errors == 0)
    snprintf (buf, len, "no error");
  else
    snprintf (buf, len, "%s at offset %" PRIu64 ": %s", job->error_is_read ?
              "reading the disk" : "writing the image", job->error_offset,
              strerror (job->error_num));
  return buf;
}

bool
backup_was_complete (const struct client *client, const struct backup *backup)
{
  const struct cbw_snapshot *entry =
    map_snapshot (&client->segment.map, backup->index);
  const bool complete =
    atomic_load (&((struct cbw_snapshot *) entry)->job.state) ==
    CBW_JOB_COMPLETE;

  atomic_thread_fence (memory_order_acquire);
  return complete && entry->id == backup->entry.id;
}

static bool
was_complete (const struct follow *f)
{
  const struct backup backup = { .index = f->index, .entry = f->entry };

  return backup_was_complete (f->client, &backup);
}

static enum seen
look_at_entry (struct follow *f)
{
  const struct cbw_map *m = &f->client->segment.map;
  struct cbw_snapshot entry;

  if (!entry_copy (m, f->index, &entry) || entry.id != f->entry.id ||
      entry.state == CBW_SNAPSHOT_HIDDEN)
    return was_complete (f) ? SEEN_COMPLETE : SEEN_GONE;
  f->entry = entry;
  if (entry.job.state == CBW_JOB_COMPLETE)
    return SEEN_COMPLETE;
  if (entry.job.state == CBW_JOB_FAILED ||
      entry.state == CBW_SNAPSHOT_BROKEN)
    return SEEN_FAILED;
  return SEEN_RUNNING;
}

/* Bytes per second, and the clusters of which that is the rate. */
static uint64_t
rate (struct follow *f, uint64_t settled, uint64_t cluster_size)
{
  const uint64_t now = now_monotonic_ns ();
  const unsigned i = f->looks++ % RATE_LOOKS;
  const unsigned first = f->looks <= RATE_LOOKS ? 0 : f->looks % RATE_LOOKS;

  f->settled[i] = settled;
  f->ns[i] = now;
  if (now <= f->ns[first] || settled <= f->settled[first])
    return 0;
  return (uint64_t) ((double) (settled - f->settled[first]) *
                     (double) cluster_size * 1e9 /
                     (double) (now - f->ns[first]));
}

static void
draw (struct follow *f)
{
  const struct cbw_map *m = &f->client->segment.map;
  const uint64_t cs = m->geometry.cluster_size;
  const uint64_t whole = backup_clusters (m, &f->entry);
  const uint64_t part = min_u64 (backup_settled (&f->entry), whole);
  const uint64_t speed = rate (f, part, cs);
  const unsigned full = whole ? (unsigned) (BAR_COLUMNS * part / whole) : 0;
  char bar[BAR_COLUMNS + 1], percent[FORMAT_MAX], size[FORMAT_MAX];
  char left[FORMAT_MAX];

  if (!f->tty)
    return;
  memset (bar, '.', BAR_COLUMNS);
  memset (bar, '#', full);
  bar[BAR_COLUMNS] = '\0';
  printf ("\r[%s] %s  %s/s", bar, format_percent (part, whole, percent),
          format_size (speed, size));
  if (f->entry.job.state == CBW_JOB_PAUSED)
    printf ("  paused");
  else if (f->entry.job.state == CBW_JOB_STOPPED)
    printf ("  stopped by an error");
  else if (speed > 0)
    printf ("  %s left", format_duration
            ((uint64_t) ((double) ((whole - part) * cs) * 1e9 /
                         (double) speed), left));
  printf ("\033[K");
  fflush (stdout);
}

/* An error has stopped it: somebody has to do something. */
static void
tell_stopped (struct follow *f)
{
  char text[256], name[FORMAT_TEXT_MAX], path[FORMAT_TEXT_MAX];

  if (f->entry.job.state != CBW_JOB_STOPPED) {
    f->stop_told = false;
    return;
  }
  if (!f->stop_told)
    fprintf (stderr, "%scbwctl: stopped by an error: %s\n"
             "cbwctl: to try again: cbwctl backup %s %s --resume\n",
             f->tty ? "\n" : "", backup_error (&f->entry, text, sizeof text),
             format_text (f->client->segment.path, path),
             format_text (f->entry.name, name));
  f->stop_told = true;
}

/* Is the image still in use by the server? */
static bool
is_locked (const char *path)
{
  CLEANUP_CLOSE int fd = open (path, O_RDONLY | O_CLOEXEC);

  return fd >= 0 && ofdlock_held (fd, 0, 0) == 1;
}

/* What is written, and why not less. */
static void
tell_increment (const struct cbw_increment *i)
{
  char name[FORMAT_TEXT_MAX], size[FORMAT_MAX];

  if (i->since != 0)
    printf ("Writing what has changed since \"%s\": %s.\n",
            format_text (i->name, name),
            format_size (atomic_load (&((struct cbw_increment *) i)->
                                      changed_bytes), size));
  else if (i->reason[0])
    printf ("A full backup: %s.\n", format_text (i->reason, name));
}

static void
print_json (struct follow *f, const char *result)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *t = json_object_new_object ();
  char text[256];

  json_object_object_add (o, "segment", json_text (f->client->segment.path));
  json_object_object_add (o, "name", json_text (f->entry.name));
  json_object_object_add (o, "status", json_object_new_string (result));
  if (f->entry.job.errors)
    json_object_object_add (o, "error", json_text
                            (backup_error (&f->entry, text, sizeof text)));
  json_increment (o, &f->entry.increment);
  json_object_object_add (t, "filename", json_text (f->entry.target));
  json_object_object_add (o, "target", t);
  json_object_object_add (o, "len", json_object_new_uint64 (f->entry.size));
  json_object_object_add (o, "copied-bytes", json_object_new_uint64
                          (f->entry.copied_bytes));
  json_print (o);
  json_object_put (o);
}

/* The backup was dropped: is it still in the table? */
static bool
is_in_table (struct follow *f)
{
  struct cbw_snapshot entry;

  return entry_copy (&f->client->segment.map, f->index, &entry) &&
    entry.id == f->entry.id;
}

/* Has the server the image still open? */
static bool
is_open (struct follow *f)
{
  return is_in_table (f) ||
    (f->entry.target_kind == CBW_TARGET_RAW && is_locked (f->entry.target));
}

static int
complete (struct follow *f)
{
  const uint64_t until = now_monotonic_ns () + UNLOCK_WAIT;
  char text[FORMAT_TEXT_MAX], a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX];

  while (is_open (f) && now_monotonic_ns () < until)
    if (term_wait (NS_PER_MS))
      break;
  if (f->json) {
    print_json (f, "completed");
    return EXIT_DONE;
  }
  printf ("Backup complete in %s: %s, %s, of which %s are data.\n",
          format_duration (now_monotonic_ns () - f->start_ns, a),
          format_text (f->entry.target, text), format_size (f->entry.size, b),
          format_size (f->entry.copied_bytes, c));
  return EXIT_DONE;
}

/* The end, but for a complete one. */
static int
failed (struct follow *f, const char *result, const char *why)
{
  char name[FORMAT_TEXT_MAX];

  if (f->json)
    print_json (f, result);
  fprintf (stderr, "cbwctl: backup \"%s\" %s%s%s\n",
           format_text (f->entry.name, name), result, why[0] ? ": " : "",
           why);
  return EXIT_FAILED;
}

/* Let go of it, however it stands: the server keeps the image if it is
 * complete.
 */
static int
end_follow (struct follow *f, enum seen seen, bool cancelled)
{
  struct snapshot_info info;
  struct error e;
  char text[256];

  if (f->tty)
    printf ("\n");
  if (seen != SEEN_GONE &&
      control_drop_id (f->client, f->entry.id,
                       CBW_DROP_KEEP_POINT, 0, &e) == -1 &&
      !was_complete (f))
    return report_error (&e);
  if (was_complete (f))         /* perhaps in the last moment */
    return complete (f);
  if (seen == SEEN_GONE || cancelled)
    return failed (f, "cancelled", "");
  if (f->entry.job.errors)
    return failed (f, "failed", backup_error (&f->entry, text, sizeof text));
  entry_info (&f->entry, f->index, &info);
  entry_describe (&info, text, sizeof text);
  return failed (f, "failed", text);
}

/* Nobody waits any more: the backup continues without us. */
static int
detached (const struct follow *f)
{
  struct error e;

  error_set (&e, EINTR, "%s: the terminal is gone; the backup continues: "
             "cbwctl backup %s %s waits for it", f->client->segment.path,
             f->client->segment.path, f->entry.name);
  return report_error (&e);
}

int
backup_follow (struct client *client, const struct backup *backup, bool json)
{
  struct follow f = {
    .client = client, .entry = backup->entry, .index = backup->index,
    .json = json, .tty = !json && term_is_tty (),
    .start_ns = now_monotonic_ns (),
  };
  bool cancelled = false;
  enum seen seen;
  struct error e;

  alarm (0);                    /* to wait is what it is for */
  term_catch_signals ();
  if (!json)
    tell_increment (&f.entry.increment);
  while ((seen = look_at_entry (&f)) == SEEN_RUNNING && !cancelled) {
    draw (&f);
    tell_stopped (&f);
    if (!client_server_alive (client)) {
      error_set (&e, ESHUTDOWN, "%s: its server has ended; the backup "
                 "continues when the server is started again: cbwctl backup "
                 "%s %s waits for it", client->segment.path, client->segment.path,
                 f.entry.name);
      return report_error (&e);
    }
    cancelled = term_wait (INTERVAL);
  }
  if (cancelled && term_hung_up ())
    return detached (&f);
  draw (&f);
  return end_follow (&f, seen, cancelled);
}
