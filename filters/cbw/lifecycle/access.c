/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading the access file.  It is read into memory as a whole, so that what
 * is parsed is one state of it; then line by line into a list of areas.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lifecycle/access.h"
#include "utils/cleanup.h"
#include "utils/parse.h"

struct area {
  uint64_t offset, length;
  unsigned line;
};

struct access_areas {
  struct area *areas;
  size_t nr, room;
};

/* -- The file ------------------------------------------------------------ */

/* Is this a file to read areas from? */
static int
check_file (const struct stat *st, const char *path, bool any_user,
            struct error *e)
{
  if (!S_ISREG (st->st_mode))
    return error_set (e, EINVAL, "%s: the access file must be a regular file",
                      path);
  if (!any_user && st->st_uid != 0 && st->st_uid != geteuid ())
    return error_set (e, EPERM, "%s: the access file belongs to user %u; it "
                      "must belong to the user of the server (%u) or to root",
                      path, (unsigned) st->st_uid, (unsigned) geteuid ());
  if (st->st_size > ACCESS_FILE_MAX)
    return error_set (e, EFBIG, "%s: the access file has more than %d MiB",
                      path, ACCESS_FILE_MAX / (1024 * 1024));
  return 0;
}

/* Open it.  Of a symbolic link it is the file behind it that counts, as the
 * link's name could have been that file's.
 */
static int
open_file (const char *path, bool any_user, struct stat *st, struct error *e)
{
  int fd;

  /* Before it is opened too: opening a device may do things to it. */
  if (stat (path, st) == -1)
    return error_set_errno (e, errno, "%s: cannot open the access file", path);
  if (check_file (st, path, any_user, e) == -1)
    return -1;
  /* It may have been replaced by a pipe, so do not wait for that. */
  fd = open (path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open the access file", path);
  if (fstat (fd, st) == -1)
    error_set_errno (e, errno, "%s: fstat", path);
  else if (check_file (st, path, any_user, e) == 0)
    return fd;
  close (fd);
  return -1;
}

/* Fill buf.  Returns the number of bytes that there are, or -1. */
static ssize_t
read_up_to (int fd, char *buf, size_t len)
{
  size_t n = 0;
  ssize_t r;

  while (n < len) {
    r = read (fd, buf + n, len - n);
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return -1;
    if (r == 0)
      break;
    n += (size_t) r;
  }
  return (ssize_t) n;
}

static bool
same_time (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* All of the file, *len bytes, or NULL with the error set; the caller frees
 * it.
 */
static char *
read_file (const char *path, bool any_user, size_t *len, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  struct stat before, after;
  char *text;
  ssize_t n;

  fd = open_file (path, any_user, &before, e);
  if (fd == -1)
    return NULL;
  *len = (size_t) before.st_size;
  text = malloc (*len + 1);
  if (text == NULL) {
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  n = read_up_to (fd, text, *len + 1); /* one more, to see if it grows */
  if (n == -1 || fstat (fd, &after) == -1)
    error_set_errno (e, errno, "%s: cannot read", path);
  else if ((size_t) n != *len || after.st_size != before.st_size ||
           !same_time (&after.st_mtim, &before.st_mtim))
    error_set (e, EBUSY, "%s: the access file was changed while it was read; "
               "try again", path);
  else
    return text;
  free (text);
  return NULL;
}

/* -- Its lines ----------------------------------------------------------- */

static const char *
skip_space (const char *p)
{
  while (isspace ((unsigned char) *p))
    p++;
  return p;
}

static int
add_area (struct access_areas *list, const struct area *area, const char *path,
          struct error *e)
{
  struct area *more;

  if (list->nr == ACCESS_AREAS_MAX)
    return error_set (e, E2BIG, "%s:%u: there are more than %d areas", path,
                      area->line, ACCESS_AREAS_MAX);
  if (list->nr == list->room) {
    list->room = list->room ? 2 * list->room : 64;
    more = realloc (list->areas, list->room * sizeof *more);
    if (more == NULL)
      return error_set_errno (e, ENOMEM, "%s", path);
    list->areas = more;
  }
  list->areas[list->nr++] = *area;
  return 0;
}

/* The words of a line, from which the comment was taken off. */
static int
parse_words (const char *path, unsigned line, const char *text,
             struct area *area, struct error *e)
{
  const char *p = parse_size (text, &area->offset);

  area->line = line;
  if (p == NULL || (*p != '\0' && !isspace ((unsigned char) *p)))
    return error_set (e, EINVAL, "%s:%u: is not OFFSET LENGTH: the offset is "
                      "not a number of bytes", path, line);
  if (*skip_space (p) == '\0')
    return error_set (e, EINVAL, "%s:%u: is not OFFSET LENGTH: there is no "
                      "length", path, line);
  p = parse_size (p, &area->length);
  if (p == NULL || (*p != '\0' && !isspace ((unsigned char) *p)))
    return error_set (e, EINVAL, "%s:%u: is not OFFSET LENGTH: the length is "
                      "not a number of bytes", path, line);
  if (*skip_space (p) != '\0')
    return error_set (e, EINVAL, "%s:%u: is not OFFSET LENGTH: something "
                      "follows the length", path, line);
  return 0;
}

/* Parse one line, of len bytes and a NUL in place of the newline, and add
 * its area if it has one.
 */
static int
parse_line (const char *path, unsigned line, char *text, size_t len,
            uint64_t size, struct access_areas *list, struct error *e)
{
  struct area area;

  if (len > ACCESS_LINE_MAX)
    return error_set (e, EINVAL, "%s:%u: the line has more than %d bytes",
                      path, line, ACCESS_LINE_MAX);
  if (strlen (text) != len)
    return error_set (e, EINVAL, "%s:%u: the line is no text: there is a "
                      "byte 0", path, line);
  text[strcspn (text, "#")] = '\0';
  if (*skip_space (text) == '\0')
    return 0;
  if (parse_words (path, line, text, &area, e) == -1)
    return -1;
  if (area.length == 0)
    return error_set (e, EINVAL, "%s:%u: the area is empty", path, line);
  if (area.offset > size || area.length > size - area.offset)
    return error_set (e, EINVAL, "%s:%u: the area ends past the disk of %"
                      PRIu64 " bytes", path, line, size);
  return add_area (list, &area, path, e);
}

/* The text has len bytes, and room for one more. */
static int
parse_text (const char *path, char *text, size_t len, uint64_t size,
            struct access_areas *list, struct error *e)
{
  char *p = text, *newline;
  char *const end = text + len;
  unsigned line = 0;

  for (; p < end; p = newline + 1) {
    newline = memchr (p, '\n', (size_t) (end - p));
    if (newline == NULL)
      newline = end;
    *newline = '\0';
    if (parse_line (path, ++line, p, (size_t) (newline - p), size, list,
                    e) == -1)
      return -1;
  }
  if (list->nr == 0)
    return error_set (e, EINVAL, "%s: has no area, so nothing could be read",
                      path);
  return 0;
}

/* -- The areas ----------------------------------------------------------- */

static int
by_offset (const void *a, const void *b)
{
  const struct area *x = a, *y = b;

  return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int
check_overlap (const char *path, const struct access_areas *list,
               struct error *e)
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

static struct access_areas *
read_areas (const char *path, bool any_user, uint64_t size, struct error *e)
{
  CLEANUP_FREE char *text = NULL;
  struct access_areas *list;
  size_t len;

  text = read_file (path, any_user, &len, e);
  if (text == NULL)
    return NULL;
  list = calloc (1, sizeof *list);
  if (list == NULL) {
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  if (parse_text (path, text, len, size, list, e) == 0) {
    qsort (list->areas, list->nr, sizeof *list->areas, by_offset);
    if (check_overlap (path, list, e) == 0)
      return list;
  }
  access_free (list);
  return NULL;
}

struct access_areas *
access_read (const char *path, uint64_t size, struct error *e)
{
  return read_areas (path, false, size, e);
}

void
access_apply (const struct access_areas *areas, uint32_t cluster_size,
              const struct bitmap *access)
{
  const struct area *a;
  size_t i;

  for (i = 0; i < areas->nr; ++i) {
    a = &areas->areas[i];
    bitmap_set (access, a->offset / cluster_size,
                (a->offset + a->length + cluster_size - 1) / cluster_size);
  }
}

void
access_free (struct access_areas *areas)
{
  if (areas)
    free (areas->areas);
  free (areas);
}

int
access_load (const char *path, uint64_t size, uint32_t cluster_size,
             const struct bitmap *access, struct error *e)
{
  struct access_areas *areas = access_read (path, size, e);

  if (areas == NULL)
    return -1;
  access_apply (areas, cluster_size, access);
  access_free (areas);
  return 0;
}

int
access_check (const char *path, struct error *e)
{
  struct access_areas *areas = read_areas (path, geteuid () == 0, INT64_MAX,
                                           e);

  access_free (areas);
  return areas ? 0 : -1;
}
