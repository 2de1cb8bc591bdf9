/* SPDX-License-Identifier: BSD-3-Clause */

/* Lines and bars that fit the width of the page, for status-watch.c and
 * watch-points.c.
 */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "watch-page.h"

#define NUMBERS_COLUMNS 52      /* around and behind the bar */
#define BAR_MIN 8

/* The columns that the text takes, of which at most "max" count; *bytes
 * is how long the part is which takes them.
 */
static unsigned
text_columns (const char *text, unsigned max, size_t *bytes)
{
  mbstate_t state;
  unsigned columns = 0;
  const char *p = text;
  wchar_t wc;
  size_t n;
  int w;

  memset (&state, 0, sizeof state);
  while (*p) {
    n = mbrtowc (&wc, p, strlen (p), &state);
    if (n == (size_t) -1 || n == (size_t) -2 || n == 0) {
      memset (&state, 0, sizeof state);
      n = 1;
      w = 1;
    }
    else
      w = wcwidth (wc) >= 0 ? wcwidth (wc) : 1;
    if (columns + (unsigned) w > max)
      break;
    columns += (unsigned) w;
    p += n;
  }
  *bytes = (size_t) (p - text);
  return columns;
}

void
page_line (struct page *page, const char *fmt, ...)
{
  char text[PAGE_NAME_MAX + 256];
  va_list args;
  size_t bytes;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  text_columns (text, page->columns, &bytes);
  printf ("%.*s%s\n", (int) bytes, text, page->tty ? "\033[K" : "");
}

const char *
page_name (const char *name, char text[PAGE_NAME_MAX])
{
  unsigned used;
  size_t bytes;

  format_text (name, text);
  used = text_columns (text, PAGE_NAME_COLUMNS - 1, &bytes);
  sprintf (text + bytes, "%*s", (int) (PAGE_NAME_COLUMNS - used), "");
  return text;
}

unsigned
page_bar_columns (const struct page *page)
{
  const unsigned others = PAGE_NAME_COLUMNS + NUMBERS_COLUMNS;
  const unsigned room = page->columns > others ? page->columns - others : 0;

  return room < BAR_MIN ? BAR_MIN : room > PAGE_BAR_MAX ? PAGE_BAR_MAX : room;
}

const char *
page_bar (const struct page *page, uint64_t part, uint64_t whole,
          char bar[PAGE_BAR_MAX + 1])
{
  const unsigned columns = page_bar_columns (page);
  double full = whole ? (double) columns * (double) part / (double) whole : 0;
  unsigned i;

  if (full > 0 && full < 1)
    full = 1;                   /* a little is not nothing */
  for (i = 0; i < columns; ++i)
    bar[i] = i + 1 <= (unsigned) full ? '#' : '.';
  bar[columns] = '\0';
  return bar;
}
