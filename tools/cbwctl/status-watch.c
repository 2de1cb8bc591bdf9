/* SPDX-License-Identifier: BSD-3-Clause */

/* The segment is opened anew for each look: the file may have been removed
 * and made again meanwhile.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "status.h"
#include "term.h"
#include "utils/clock.h"
#include "watch-page.h"

static uint64_t
per_second (uint64_t now, uint64_t before, uint64_t ns)
{
  if (now <= before || ns == 0)
    return 0;
  return (uint64_t) ((double) (now - before) * 1e9 / (double) ns);
}

static void
draw_head (struct page *page, const struct status *s, const struct status *b)
{
  char size[FORMAT_MAX], up[FORMAT_MAX], text[FORMAT_TEXT_MAX];
  char read[FORMAT_MAX], copied[FORMAT_MAX];
  const uint64_t ns = s->monotonic_ns - b->monotonic_ns;
  unsigned i, clients = 0;

  for (i = 0; i < s->nr_clients; ++i)
    clients += s->clients[i].alive;
  page_line (page, "%s: %s; server %s, process %" PRIu32 "%s%s",
             format_text (s->path, text),
             format_size (s->geometry.disk_size, size),
             s->alive ? "running" : s->clean ? "stopped" : "dead", s->pid,
             s->alive ? ", " : "", s->alive ?
             format_duration (s->now_ns - s->start_ns, up) : "");
  page_line (page, "requests: %u waiting, %u running, %" PRIu64 "/s; "
             "%s/s read by %u %s", s->slots[SLOT_SUBMITTED],
             s->slots[SLOT_RUNNING],
             per_second (s->requests, b->requests, ns),
             format_size (per_second (s->read_bytes, b->read_bytes, ns), read),
             clients, clients == 1 ? "client" : "clients");
  page_line (page, "copied: %" PRIu64 " clusters/s, %s/s",
             per_second (status_copied_clusters (s),
                         status_copied_clusters (b), ns),
             format_size (per_second (status_copied_bytes (s),
                                      status_copied_bytes (b), ns), copied));
  page_line (page, "%s", "");
}

static void
draw_titles (struct page *page)
{
  page_line (page, "%-*s%-*s %7s %12s %9s  %s", PAGE_NAME_COLUMNS, "NAME",
             (int) page_bar_columns (page) + 2, "COPIED", "", "COPYING",
             "TARGET", "STATE, FULL IN");
}

/* Its state; and how long its target has room at this rate, or guests'
 * writes wait.
 */
static const char *
describe (const struct status *s, const struct status_snapshot *before,
          const struct status_snapshot *snap, uint64_t ns,
          char text[2 * FORMAT_MAX])
{
  const uint64_t stalled = status_stalled_ns (s, snap);
  const uint64_t rate = per_second (snap->held_bytes,
                                    before ? before->held_bytes : 0, ns);
  char time[FORMAT_MAX];
  double left;

  if (stalled)
    snprintf (text, 2 * FORMAT_MAX, "STALLED, %s",
              format_duration (stalled + NS_PER_SEC - 1, time));
  else if (snap->options.backup)
    snprintf (text, 2 * FORMAT_MAX, "backup %s%s%s", status_job_name (snap),
              status_left_ns (s, snap) ? ", ready in " : "",
              status_left_ns (s, snap) ?
              format_duration (status_left_ns (s, snap), time) : "");
  else if (rate > 0 && snap->target_found &&
           snap->info.state == CBW_SNAPSHOT_LIVE) {
    left = (double) status_room (snap) / (double) rate;
    snprintf (text, 2 * FORMAT_MAX, "live, %s", left > 1e9 ?
              "years" : format_duration ((uint64_t) (left * 1e9), time));
  }
  else
    snprintf (text, 2 * FORMAT_MAX, "%s", status_state_name (snap));
  return text;
}

static void
draw_snapshot (struct page *page, const struct status *s,
               const struct status *b, const struct status_snapshot *snap)
{
  const struct status_snapshot *before =
    status_find_snapshot (b, snap->info.id);
  const uint64_t ns = s->monotonic_ns - b->monotonic_ns;
  char name[PAGE_NAME_MAX], bar[PAGE_BAR_MAX + 1], percent[FORMAT_MAX];
  char rate[FORMAT_MAX], space[FORMAT_MAX], state[2 * FORMAT_MAX];

  page_bar (page, status_settled (snap), snap->clusters, bar);
  format_percent (status_settled (snap), snap->clusters, percent);
  format_size (per_second (snap->copied_bytes,
                           before ? before->copied_bytes : 0, ns), rate);
  page_line (page, "%s[%s] %7s %10s/s %9s  %s",
             page_name (snap->info.name, name), bar, percent, rate,
             snap->target_found ? format_size (snap->target_used, space) :
             snap->target_is_file ? "missing" :
             format_size (snap->held_bytes, space),
             describe (s, before, snap, ns, state));
}

static void
draw (struct page *page, const struct status *s, const struct status *before)
{
  const unsigned head = 6;
  unsigned shown = s->nr_snapshots, used, i;

  if (page->tty)
    fputs ("\033[H", stdout);
  draw_head (page, s, before);
  if (page->lines && shown + head + 1 > page->lines)
    shown = page->lines > head + 2 ? page->lines - head - 2 : 0;
  if (s->nr_snapshots > 0)
    draw_titles (page);
  /* The newest are those that something happens to. */
  for (i = s->nr_snapshots - shown; i < s->nr_snapshots; ++i)
    draw_snapshot (page, s, before, &s->snapshots[i]);
  if (shown < s->nr_snapshots)
    page_line (page, "and %u older ones", s->nr_snapshots - shown);
  if (s->nr_snapshots == 0)
    page_line (page, "no snapshots");
  used = shown + head + (shown < s->nr_snapshots);
  watch_draw_points (page, s, page->lines == 0 ? 0 :
                     page->lines > used ? page->lines - used : 1);
  fputs (page->tty ? "\033[J" : "\n", stdout);
}

static void
show (const struct status *s, const struct status *before, bool json)
{
  struct page page = {
    .tty = term_is_tty (), .columns = term_columns (),
  };

  page.lines = page.tty ? term_lines () : 0;
  if (json)
    status_print_json (s, true);
  else
    draw (&page, s, before);
  fflush (stdout);
}

/* Another segment under the name, or a first look: nothing to compare. */
static bool
comparable (const struct status *s, const struct status *before)
{
  return before->path && memcmp (s->uuid, before->uuid,
                                 sizeof s->uuid) == 0;
}

static int
loop (const char *path, struct status *two, uint64_t interval_ns,
      uint64_t count, bool json, struct error *e)
{
  struct status *now = &two[0], *before = &two[1], *other;
  uint64_t n;

  for (n = 1;; ++n) {
    if (status_collect (path, before, now, e) == -1) {
      status_free (before);
      return -1;
    }
    show (now, comparable (now, before) ? before : now, json);
    status_free (before);
    if (n == count || ferror (stdout) || term_wait (interval_ns))
      break;
    other = before;
    before = now;
    now = other;
  }
  status_free (now);
  return 0;
}

int
status_watch (const char *path, uint64_t interval_ns, uint64_t count,
              bool json, struct error *e)
{
  struct status *two = calloc (2, sizeof *two);
  int r;

  if (two == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  if (!json)
    term_enter ();
  r = loop (path, two, interval_ns, count, json, e);
  if (!json)
    term_leave ();
  free (two);
  return r;
}
