/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl status --watch: how much has changed since each point. */

#include <config.h>

#include "watch-page.h"

static void
draw_point (struct page *page, const struct status *s,
            const struct status_point *p)
{
  const bool counted = status_is_counted (p);
  const uint64_t changed = counted ? p->changed_bytes : 0;
  char name[PAGE_NAME_MAX], bar[PAGE_BAR_MAX + 1];
  char percent[FORMAT_MAX], size[FORMAT_MAX];

  page_line (page, "%s[%s] %7s %12s  %s%s",
             page_name (p->point.name, name),
             page_bar (page, changed, s->disk_size, bar),
             counted ? format_percent (changed, s->disk_size, percent) : "?",
             counted ? format_size (changed, size) : "?",
             status_kind_name (p), status_invalid (p) ? ", invalid" : "");
}

void
watch_draw_points (struct page *page, const struct status *s, unsigned lines)
{
  const unsigned head = 2;      /* an empty line, and the titles */
  unsigned shown = s->nr_points, i;

  if (lines && shown + head > lines)
    shown = lines > head + 1 ? lines - head - 1 : 0;
  if (shown == 0)
    return;
  page_line (page, "%s", "");
  page_line (page, "%-*s%-*s %7s %12s  %s", PAGE_NAME_COLUMNS, "SINCE",
             (int) page_bar_columns (page) + 2, "CHANGED", "", "", "KIND");
  for (i = s->nr_points - shown; i < s->nr_points; ++i)
    draw_point (page, s, &s->points[i]);
  if (shown < s->nr_points)
    page_line (page, "and %u older ones", s->nr_points - shown);
}
