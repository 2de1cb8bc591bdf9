/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "access.h"
#include "cleanup.h"
#include "parse.h"

struct area {
  uint64_t offset, length;
  unsigned line;
};

struct areas {
  struct area *areas;
  size_t nr, room;
};

static int
by_offset (const void *a, const void *b)
{
  const struct area *x = a, *y = b;

  return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static const char *
skip_space (const char *p)
{
  while (isspace ((unsigned char) *p))
    p++;
  return p;
}

/* Parse one line, and add its area if it has one. */
static int
parse_line (const char *path, unsigned line, char *text, uint64_t size,
            struct areas *list, struct error *e)
{
  struct area area = { .line = line };
  struct area *more;
  const char *p;

  text[strcspn (text, "#\n")] = '\0';
  if (*skip_space (text) == '\0')
    return 0;
  p = parse_size (text, &area.offset);
  if (p && isspace ((unsigned char) *p))
    p = parse_size (p, &area.length);
  else
    p = NULL;
  if (p == NULL || *skip_space (p) != '\0')
    return error_set (e, EINVAL, "%s:%u: \"%s\" is not OFFSET LENGTH",
                      path, line, text);
  if (area.length == 0)
    return error_set (e, EINVAL, "%s:%u: the area is empty", path, line);
  if (area.offset > size || area.length > size - area.offset)
    return error_set (e, EINVAL, "%s:%u: the area ends past the disk of %"
                      PRIu64 " bytes", path, line, size);

  if (list->nr == list->room) {
    list->room = list->room ? 2 * list->room : 64;
    more = realloc (list->areas, list->room * sizeof *more);
    if (more == NULL)
      return error_set_errno (e, ENOMEM, "%s", path);
    list->areas = more;
  }
  list->areas[list->nr++] = area;
  return 0;
}

static int
parse_file (FILE *fp, const char *path, uint64_t size, struct areas *list,
            struct error *e)
{
  CLEANUP_FREE char *text = NULL;
  size_t room = 0;
  unsigned line = 0;

  while (getline (&text, &room, fp) != -1)
    if (parse_line (path, ++line, text, size, list, e) == -1)
      return -1;
  if (ferror (fp))
    return error_set_errno (e, errno, "%s: cannot read", path);
  if (list->nr == 0)
    return error_set (e, EINVAL, "%s: has no area, so nothing could be read",
                      path);
  return 0;
}

static int
check_overlap (const char *path, const struct areas *list, struct error *e)
{
  const struct area *a, *b;
  size_t i;

  for (i = 1; i < list->nr; ++i) {
    a = &list->areas[i - 1];
    b = &list->areas[i];
    if (a->offset + a->length > b->offset)
      return error_set (e, EINVAL, "%s:%u: the area overlaps that of line %u",
                        path, a->line > b->line ? a->line : b->line,
                        a->line > b->line ? b->line : a->line);
  }
  return 0;
}

/* Regular files only: who opens a FIFO may wait for ever. */
static FILE *
open_file (const char *path, struct error *e)
{
  CLEANUP_CLOSE int fd = open (path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  struct stat st;
  FILE *fp;

  if (fd == -1 || fstat (fd, &st) == -1) {
    error_set_errno (e, errno, "%s: cannot open the access file", path);
    return NULL;
  }
  if (!S_ISREG (st.st_mode)) {
    error_set (e, EINVAL, "%s: the access file must be a regular file", path);
    return NULL;
  }
  fp = fdopen (fd, "r");
  if (fp == NULL)
    error_set_errno (e, errno, "%s", path);
  else
    fd = -1;                    /* it is the stream's */
  return fp;
}

/* All areas of the file, in order; the caller frees list->areas. */
static int
read_areas (const char *path, uint64_t size, struct areas *list,
            struct error *e)
{
  FILE *fp = open_file (path, e);
  int r;

  if (fp == NULL)
    return -1;
  r = parse_file (fp, path, size, list, e);
  fclose (fp);
  if (r == -1)
    return -1;
  qsort (list->areas, list->nr, sizeof *list->areas, by_offset);
  return check_overlap (path, list, e);
}

int
access_check (const char *path, struct error *e)
{
  struct areas list = { 0 };
  const int r = read_areas (path, INT64_MAX, &list, e);

  free (list.areas);
  return r;
}

int
access_load (const char *path, uint64_t size, uint32_t cluster_size,
             const struct bitmap *access, struct error *e)
{
  struct areas list = { 0 };
  const struct area *a;
  size_t i;
  int r;

  r = read_areas (path, size, &list, e);
  for (i = 0; r == 0 && i < list.nr; ++i) {
    a = &list.areas[i];
    bitmap_set (access, a->offset / cluster_size,
                (a->offset + a->length + cluster_size - 1) / cluster_size);
  }
  free (list.areas);
  return r;
}
