/* SPDX-License-Identifier: BSD-3-Clause */

/* The access file. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>

#include "access.h"
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
  RUN (test_fuzz);
  unlink (path);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
