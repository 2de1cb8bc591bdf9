/* SPDX-License-Identifier: BSD-3-Clause */

/* What cbwctl status --watch draws: lines, cut to the width and number that
 * fit, with a name and a bar in each row of a table.
 */

#ifndef CBW_WATCH_PAGE_H
#define CBW_WATCH_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "format.h"
#include "status.h"

#define PAGE_NAME_COLUMNS 20
#define PAGE_NAME_MAX (FORMAT_TEXT_MAX + PAGE_NAME_COLUMNS)
#define PAGE_BAR_MAX 40

struct page {
  bool tty;
  unsigned columns, lines;      /* lines: 0 for any number */
};

/* Print a line, as much of it as fits. */
extern void page_line (struct page *page, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* A name, safe to print, cut or filled up to PAGE_NAME_COLUMNS; returns
 * "text".
 */
extern const char *page_name (const char *name, char text[PAGE_NAME_MAX]);

/* How many columns a bar has. */
extern unsigned page_bar_columns (const struct page *page);

/* A bar that shows part of whole; returns "bar". */
extern const char *page_bar (const struct page *page, uint64_t part,
                             uint64_t whole, char bar[PAGE_BAR_MAX + 1]);

/* Draw the table of points in at most so many lines (0: any number), and
 * nothing if there are no points, or no room.
 */
extern void watch_draw_points (struct page *page, const struct status *s,
                               unsigned lines);

#endif /* CBW_WATCH_PAGE_H */
