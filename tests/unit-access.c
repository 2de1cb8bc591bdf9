/* SPDX-License-Identifier: BSD-3-Clause */

/* The access file. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "lifecycle/access.h"
#include "unit.h"

#define CS 4096
#define SIZE (100 * CS + 77)
#define CLUSTERS 101

static char *path;
static _Atomic (uint64_t) words[2];
static const struct bitmap access_bits = { words, CLUSTERS };

static int
load (const char *text, size_t len, struct error *e)
{
  const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  CHECK (fd >= 0 && write (fd, text, len) == (ssize_t) len);
  close (fd);
  words[0] = words[1] = 0;
  return access_load (path, SIZE, CS, &access_bits, e);
}

/* The bits of [start, end) are set, and no other. */
static void
good (const char *text, uint64_t start, uint64_t end)
{
  struct error e;
  uint64_t c;

  CHECK_EQ (load (text, strlen (text), &e), 0);
  for (c = 0; c < CLUSTERS; ++c)
    CHECK_EQ (bitmap_test (&access_bits, c), c >= start && c < end);
  CHECK_EQ (words[1] >> (CLUSTERS - 64), 0);
}

static void
bad (const char *text, const char *message)
{
  struct error e;

  CHECK (load (text, strlen (text), &e) == -1);
  CHECK_ERROR (&e, EINVAL, message);
  CHECK (strstr (e.msg, path) == e.msg);
}

static void
test_good (void)
{
  good ("0 1", 0, 1);
  good ("0 1\n", 0, 1);
  good ("  4096\t4096  # one\n#\n\n   \n", 1, 2);
  good ("0x1000 0x1\r\n", 1, 2);
  good ("4095 2", 0, 2);
  good ("4k 8k", 1, 3);
  good ("8k 4k\n4k 4k", 1, 3);
  good ("409676 1", 100, 101);
  good ("0 409677", 0, CLUSTERS);
}

static void
test_bad (void)
{
  bad ("", "has no area");
  bad ("# 0 1\n", "has no area");
  bad ("0", ":1: ");
  bad ("0\n1", ":1: ");
  bad ("01\nx", ":1: ");
  bad ("0 1\nx", ":2: ");
  bad ("0 1 x", ":1: ");
  bad ("0 +1", ":1: ");
  bad ("0x 1", ":1: ");
  bad ("0 1e3", ":1: ");
  bad ("0,1", ":1: ");
  bad ("0 0", ":1: the area is empty");
  bad ("0 409678", ":1: the area ends past the disk of 409677 bytes");
  bad ("409678 1", ":1: the area ends past");
  bad ("0xffffffffffffffff 2", ":1: the area ends past");
  bad ("1 0xffffffffffffffff", ":1: the area ends past");
  bad ("0 16777216T", ":1: ");
  bad ("0 2\n#\n1 1", ":3: the area overlaps that of line 1");
}

/* What a file holds is never in the message. */
static void
test_not_quoted (void)
{
  static const char *const texts[] = {
    "root:$6$SECRET:19000:0:99999:7:::\n", "SECRET 5", "5 SECRET",
    "5 5 SECRET", "5SECRET 5", "5 5SECRET", "0 1\nSECRET"
  };
  struct error e;
  size_t i;

  for (i = 0; i < sizeof texts / sizeof texts[0]; ++i) {
    CHECK (load (texts[i], strlen (texts[i]), &e) == -1);
    CHECK_ERROR (&e, EINVAL, "is not OFFSET LENGTH: ");
    CHECK (strstr (e.msg, "SECRET") == NULL);
  }
}

/* A line of len bytes, of which all but the area is a comment. */
static int
load_line (size_t len, struct error *e)
{
  char text[ACCESS_LINE_MAX + 10];

  memset (text, 'x', sizeof text);
  memcpy (text, "0 1 #", 5);
  text[len] = '\n';
  return load (text, len + 1, e);
}

static void
test_long_line (void)
{
  struct error e;

  CHECK_EQ (load_line (ACCESS_LINE_MAX, &e), 0);
  CHECK (load_line (ACCESS_LINE_MAX + 1, &e) == -1);
  CHECK_ERROR (&e, EINVAL, ":1: the line has more than 4096 bytes");
}

static void
test_no_text (void)
{
  struct error e;

  CHECK (load ("0 1\n5 1\0\n", 9, &e) == -1);
  CHECK_ERROR (&e, EINVAL, ":2: the line is no text");
  CHECK (load ("# \0\n", 4, &e) == -1);
  CHECK_ERROR (&e, EINVAL, ":1: the line is no text");
}

/* A file that is too large is refused unread: it is sparse here, and would
 * be one line.
 */
static void
test_large_file (void)
{
  struct error e;

  CHECK_EQ (load ("0 1\n", 4, &e), 0);
  CHECK (truncate (path, ACCESS_FILE_MAX + 1) == 0);
  CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
  CHECK_ERROR (&e, EFBIG, "has more than 16 MiB");
  CHECK (truncate (path, INT64_C (3) << 30) == 0);
  CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
  CHECK_ERROR (&e, EFBIG, "has more than 16 MiB");
  CHECK (truncate (path, ACCESS_FILE_MAX) == 0);
  CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
  CHECK_ERROR (&e, EINVAL, ":2: the line has more than 4096 bytes");
}

static void
test_many_areas (void)
{
  const size_t nr = ACCESS_AREAS_MAX + 1, len = 15;
  char *text = malloc (nr * len + 1);
  struct error e;
  size_t i;
  int fd;

  CHECK (text != NULL);
  for (i = 0; i < nr; ++i)
    sprintf (text + i * len, "%10zu  1\n ", i);
  fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK (fd >= 0 && write (fd, text, nr * len) == (ssize_t) (nr * len));
  CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
  CHECK_ERROR (&e, E2BIG, "there are more than 262144 areas");
  CHECK (ftruncate (fd, (off_t) (ACCESS_AREAS_MAX * len)) == 0);
  CHECK_EQ (access_load (path, SIZE, CS, &access_bits, &e), 0);
  close (fd);
  free (text);
}

/* Another user's is refused, but for root's and where root only checks. */
static void
test_owner (void)
{
  struct error e;

  CHECK_EQ (load ("0 1\n", 4, &e), 0);
  if (geteuid () == 0) {
    CHECK (chown (path, 65534, 65534) == 0);
    CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
    CHECK_ERROR (&e, EPERM, "belongs to user 65534");
    CHECK (access_check (path, &e) == 0);
  }
  CHECK (unlink (path) == 0);
  CHECK (mkfifo (path, 0600) == 0);
  CHECK (access_load (path, SIZE, CS, &access_bits, &e) == -1);
  CHECK_ERROR (&e, EINVAL, "must be a regular file");
  CHECK (unlink (path) == 0);
}

/* Any bytes: an error or not, but no crash, and no bit past the end. */
static void
test_fuzz (void)
{
  static const char alphabet[] = "0123456789x \t\n#kMGT-+.\0aF";
  struct error e;
  char text[64];
  uint64_t seed = 5;
  size_t len, i;
  unsigned n;

  for (n = 0; n < 20000; ++n) {
    len = unit_random (&seed) % sizeof text;
    for (i = 0; i < len; ++i)
      text[i] = unit_random (&seed) % 50 == 0 ? (char) unit_random (&seed) :
        alphabet[unit_random (&seed) % (sizeof alphabet - 1)];
    if (load (text, len, &e) == -1)
      CHECK (e.num == EINVAL && e.msg[0] != '\0');
    else
      CHECK (words[0] != 0 || words[1] != 0);
    CHECK_EQ (words[1] >> (CLUSTERS - 64), 0);
  }
}

int
main (void)
{
  char *dir = unit_tmpdir ();

  unit_start ();
  CHECK (asprintf (&path, "%s/areas", dir) != -1);
  RUN (test_good);
  RUN (test_bad);
  RUN (test_not_quoted);
  RUN (test_long_line);
  RUN (test_no_text);
  RUN (test_large_file);
  RUN (test_many_areas);
  RUN (test_owner);
  RUN (test_fuzz);
  unlink (path);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
