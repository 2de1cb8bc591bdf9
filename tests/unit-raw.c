/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image.h"
#include "unit.h"

#define SIZE (10 * 65536 + 123)

static char *dir, *path;

static struct image *
create (struct image_id *id)
{
  struct image *image;
  struct error e;
  bool created;

  image = image_raw_create (path, SIZE, id, &created, &e);
  CHECK (image != NULL);
  CHECK (created);
  return image;
}

static void
write_file (const char *text)
{
  FILE *fp = fopen (path, "w");

  CHECK (fp != NULL);
  fputs (text, fp);
  fclose (fp);
}

static void
test_fresh_is_hole (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;
  struct stat st;
  uint64_t next;
  unsigned char c = 1;
  bool data = true;

  CHECK (stat (path, &st) == 0);
  CHECK_EQ (st.st_size, SIZE);
  CHECK_EQ (st.st_blocks, 0);
  CHECK_EQ (st.st_mode & 0777, 0600);
  CHECK (image->ops->extent (image, 5, SIZE - 1, &next, &data, &e) == 0);
  CHECK (!data);
  CHECK_EQ (next, SIZE - 1);
  CHECK (image->ops->pread (image, &c, 1, SIZE - 1, &e) == 0);
  CHECK_EQ (c, 0);
  image->ops->close (image);
  unlink (path);
}

static void
test_write_read_extents (void)
{
  struct image_id id;
  struct image *image = create (&id);
  unsigned char buf[65536], back[65536];
  struct error e;
  uint64_t next;
  bool data;

  memset (buf, 0x5a, sizeof buf);
  CHECK (image->ops->pwrite (image, buf, sizeof buf, 2 * 65536, &e) == 0);
  CHECK (image->ops->pwrite (image, buf, 123, SIZE - 123, &e) == 0);
  CHECK (image->ops->pread (image, back, sizeof back, 2 * 65536, &e) == 0);
  CHECK (memcmp (buf, back, sizeof buf) == 0);

  CHECK (image->ops->extent (image, 0, SIZE, &next, &data, &e) == 0);
  CHECK (!data);
  CHECK_EQ (next, 2 * 65536);
  CHECK (image->ops->extent (image, next, SIZE, &next, &data, &e) == 0);
  CHECK (data);
  CHECK_EQ (next, 3 * 65536);
  /* Never past the end that was asked about. */
  CHECK (image->ops->extent (image, 2 * 65536 + 1, 2 * 65536 + 2, &next,
                             &data, &e) == 0);
  CHECK (data);
  CHECK_EQ (next, 2 * 65536 + 2);
  CHECK (image->ops->flush (image, &e) == 0);
  image->ops->close (image);
  unlink (path);
}

static void
test_read_past_end (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;
  char buf[2];

  CHECK (image->ops->pread (image, buf, 2, SIZE - 1, &e) == -1);
  CHECK_ERROR (&e, EIO, "truncate");
  image->ops->close (image);
  unlink (path);
}

/* What a full disk does to the copy path. */
static void
test_write_error (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;

  CHECK (image->ops->pwrite (image, "x", 1, INT64_MAX - 1, &e) == -1);
  CHECK (e.num == EFBIG || e.num == EINVAL);
  CHECK (strstr (e.msg, path) != NULL);
  image->ops->close (image);
  unlink (path);
}

static void
test_no_overwrite (void)
{
  struct image_id id;
  struct error e;
  struct stat st;
  bool created;

  write_file ("precious");
  CHECK (image_raw_create (path, SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EEXIST, "not empty");
  CHECK (stat (path, &st) == 0);
  CHECK_EQ (st.st_size, 8);
  unlink (path);
}

static void
test_empty_file_is_used (void)
{
  struct image_id id;
  struct image *image;
  struct error e;
  bool created = true;

  write_file ("");
  image = image_raw_create (path, SIZE, &id, &created, &e);
  CHECK (image != NULL);
  CHECK (!created);
  image->ops->close (image);
  unlink (path);
}

/* Truncated by another: no write makes it look whole again, and no read
 * takes the hole for what was there.
 */
static void
test_truncated (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;
  char buf[8];

  CHECK (image->ops->pwrite (image, "precious", 8, 0, &e) == 0);
  CHECK (image->ops->pwrite (image, "the last", 8, SIZE - 8, &e) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == 0);
  CHECK (truncate (path, 0) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == -1);
  CHECK (image->ops->pwrite (image, "the last", 8, SIZE - 8, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (image->ops->pwrite (image, "more", 4, 100, &e) == 0);
  CHECK (image->ops->pread (image, buf, 8, 0, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "resized");
  CHECK (image->ops->check (image, &e) == -1);
  image->ops->close (image);
  unlink (path);
}

/* Failure leaves nothing behind. */
static void
test_too_long (void)
{
  struct image_id id;
  struct error e;
  bool created;

  CHECK (image_raw_create (path, INT64_MAX, &id, &created, &e) == NULL);
  CHECK (strstr (e.msg, path) != NULL);
  CHECK (access (path, F_OK) == -1);
}

static void
test_not_a_file (void)
{
  struct image_id id;
  struct error e;
  bool created;

  CHECK (image_raw_create (dir, SIZE, &id, &created, &e) == NULL);
  CHECK (image_raw_create ("/dev/null", SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EINVAL, "regular file");
  CHECK (access ("/dev/null", F_OK) == 0);
}

static void
test_locked (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;

  CHECK (image_raw_open (path, SIZE, &id, &e) == NULL);
  CHECK_ERROR (&e, EBUSY, "locked");
  image->ops->close (image);
  image = image_raw_open (path, SIZE, &id, &e);
  CHECK (image != NULL);
  image->ops->close (image);
  unlink (path);
}

/* What this process has open is no target, replaced or not: it may be the
 * disk itself.
 */
static void
test_open_here (void)
{
  struct image_id id;
  struct error e;
  bool created;
  int fd;

  write_file ("precious");
  fd = open (path, O_RDONLY);
  CHECK (fd >= 0);
  CHECK (image_raw_create (path, SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EBUSY, "in use by this server");
  CHECK (!created);
  CHECK (image_raw_remove_old (path, &e) == -1);
  CHECK_ERROR (&e, EBUSY, "in use by this server");
  CHECK (access (path, F_OK) == 0);
  close (fd);
  CHECK (image_raw_remove_old (path, &e) == 0);
  CHECK (access (path, F_OK) == -1);
  CHECK (image_raw_remove_old (path, &e) == 0);
}

static void
test_replaced (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;
  char *other;

  image->ops->close (image);
  CHECK (truncate (path, SIZE - 1) == 0);
  CHECK (image_raw_open (path, SIZE, &id, &e) == NULL);
  CHECK_ERROR (&e, ESTALE, "resized");

  /* Another file of the right size under its name. */
  CHECK (asprintf (&other, "%s.other", path) != -1);
  CHECK (rename (path, other) == 0);
  write_file ("");
  CHECK (truncate (path, SIZE) == 0);
  CHECK (image_raw_open (path, SIZE, &id, &e) == NULL);
  CHECK_ERROR (&e, ESTALE, "not the file");

  unlink (path);
  CHECK (image_raw_open (path, SIZE, &id, &e) == NULL);
  CHECK_ERROR (&e, ENOENT, "cannot open");
  unlink (other);
  free (other);
}

int
main (void)
{
  unit_start ();
  dir = unit_tmpdir ();
  CHECK (asprintf (&path, "%s/target", dir) != -1);
  RUN (test_fresh_is_hole);
  RUN (test_write_read_extents);
  RUN (test_read_past_end);
  RUN (test_write_error);
  RUN (test_no_overwrite);
  RUN (test_empty_file_is_used);
  RUN (test_truncated);
  RUN (test_too_long);
  RUN (test_not_a_file);
  RUN (test_locked);
  RUN (test_open_here);
  RUN (test_replaced);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
