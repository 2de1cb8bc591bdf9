/* SPDX-License-Identifier: BSD-3-Clause */

/* Raw files as targets: what is read and written, what is refused, and what
 * is never removed.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "image/raw/raw.h"
#include "unit.h"
#include "utils/cleanup.h"

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
  const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  CHECK (fd >= 0);
  CHECK_EQ (write (fd, text, strlen (text)), (ssize_t) strlen (text));
  close (fd);
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
  struct image *image = create (&id), *other;
  struct error e;

  CHECK_EQ (image_raw_open (path, SIZE, &id, &other, &e), IMAGE_RAW_NOT_NOW);
  CHECK (other == NULL);
  CHECK_ERROR (&e, EBUSY, "locked");
  image->ops->close (image);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_OPENED);
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
  CHECK_ERROR (&e, EBUSY, "is in use by");
  CHECK (!created);
  CHECK (image_raw_remove_old (path, &e) == -1);
  CHECK_ERROR (&e, EBUSY, "is in use by");
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
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ESTALE, "resized");

  /* Another file of the right size under its name. */
  CHECK (asprintf (&other, "%s.other", path) != -1);
  CHECK (rename (path, other) == 0);
  write_file ("");
  CHECK (truncate (path, SIZE) == 0);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ESTALE, "not the file");

  unlink (path);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ENOENT, "cannot open");
  unlink (other);
  free (other);
}

/* What proves nothing: it may be there, and is not broken for good. */
static void
test_not_now (void)
{
  struct image_id id, elsewhere;
  struct image *image = create (&id);
  char *away, *inside;
  struct error e;
  struct rlimit old, none;

  image->ops->close (image);
  elsewhere = (struct image_id) { id.device + 1, id.inode };
  CHECK_EQ (image_raw_open (path, SIZE, &elsewhere, &image, &e),
            IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, EBUSY, "not mounted");

  CHECK (getrlimit (RLIMIT_NOFILE, &old) == 0);
  none = (struct rlimit) { 0, old.rlim_max };
  CHECK (setrlimit (RLIMIT_NOFILE, &none) == 0);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK (setrlimit (RLIMIT_NOFILE, &old) == 0);
  CHECK_ERROR (&e, EMFILE, "cannot open");

  CHECK (asprintf (&away, "%s.away", path) != -1);
  CHECK (rename (path, away) == 0);
  CHECK (symlink (away, path) == 0);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ELOOP, "symbolic link");
  unlink (path);
  /* Another file system, in its place. */
  CHECK_EQ (image_raw_open (path, SIZE, &elsewhere, &image, &e),
            IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ENOENT, "not mounted");
  CHECK (rename (away, path) == 0);

  /* No directory. */
  CHECK (asprintf (&inside, "%s.dir/file", path) != -1);
  CHECK_EQ (image_raw_open (inside, SIZE, &id, &image, &e),
            IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ENOENT, "cannot open");

  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_OPENED);
  image->ops->close (image);
  unlink (path);
  free (away);
  free (inside);
}

static void
expect_refused (const struct image_id *id, int num, const char *why)
{
  struct image *image;
  struct error e;
  bool created;

  if (id) {
    CHECK_EQ (image_raw_open (path, SIZE, id, &image, &e), IMAGE_RAW_NOT_NOW);
    CHECK_ERROR (&e, num, why);
    CHECK (image_raw_remove (path, SIZE, id, &e) == -1);
    CHECK_ERROR (&e, num, why);
  }
  else {
    CHECK (image_raw_create (path, SIZE, &(struct image_id) { 0, 0 },
                             &created, &e) == NULL);
    CHECK_ERROR (&e, num, why);
    CHECK (!created);
    CHECK (image_raw_remove_unused (path, 0, &e) == -1);
    CHECK_ERROR (&e, num, why);
  }
  CHECK (access (path, F_OK) == 0);
}

/* A file which this program would not have made so is no target, new or
 * old, and is not removed as one.
 */
static void
test_not_ours (void)
{
  struct image_id id;
  struct image *image;
  struct error e;
  char *link_path;
  unsigned fresh;

  CHECK (asprintf (&link_path, "%s.link", path) != -1);
  for (fresh = 0; fresh < 2; ++fresh) {
    if (fresh)
      write_file ("");
    else {
      image = create (&id);
      image->ops->close (image);
    }
    CHECK (chmod (path, 0640) == 0);
    expect_refused (fresh ? NULL : &id, EPERM, "other users may open it");
    CHECK (chmod (path, 0600) == 0);
    CHECK (link (path, link_path) == 0);
    expect_refused (fresh ? NULL : &id, EPERM, "names");
    CHECK (unlink (link_path) == 0);
    if (geteuid () == 0) {
      CHECK (chown (path, 1, (gid_t) -1) == 0);
      expect_refused (fresh ? NULL : &id, EPERM, "another user");
      CHECK (chown (path, 0, (gid_t) -1) == 0);
    }
    if (fresh)
      CHECK (image_raw_remove_unused (path, 0, &e) == 0);
    else
      CHECK (image_raw_remove (path, SIZE, &id, &e) == 0);
    CHECK (access (path, F_OK) == -1);
  }
  free (link_path);
}

/* What another program has open, or this one, is left alone: nothing is to
 * be told of it but by the kernel.
 */
static void
test_in_use (void)
{
  const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
  struct error e;
  unsigned i;
  int tell[2], status;
  char c;
  pid_t pid;

  write_file ("");
  for (i = 0; i < 3; ++i) {
    CHECK (pipe (tell) == 0);
    pid = fork ();
    if (pid == 0) {
      const int fd = open (path, modes[i]);

      close (tell[1]);
      _exit (fd == -1 || read (tell[0], &c, 1) != 0);
    }
    close (tell[0]);
    /* It waits for us from the moment in which it has it open. */
    while (image_raw_check_old (path, true, &e) == 0)
      ;
    CHECK_ERROR (&e, EBUSY, "is in use by");
    CHECK (image_raw_remove_old (path, &e) == -1);
    CHECK (image_raw_remove_unused (path, 0, &e) == -1);
    close (tell[1]);
    CHECK (waitpid (pid, &status, 0) == pid);
    CHECK_EQ (status, 0);
    CHECK (access (path, F_OK) == 0);
  }
  CHECK (image_raw_remove_old (path, &e) == 0);
  CHECK (access (path, F_OK) == -1);

  CHECK (symlink ("/dev/null", path) == 0);
  CHECK (image_raw_remove_old (path, &e) == -1);
  CHECK_ERROR (&e, EINVAL, "regular file");
  unlink (path);
}

/* Who opens the file while it is held waits, and does us no harm. */
static void
test_lease_broken (void)
{
  int fd, status;
  struct error e;
  pid_t pid;

  write_file ("");
  fd = open (path, O_RDONLY);
  CHECK (raw_lease (fd, path, &e) == 0);
  pid = fork ();
  if (pid == 0) {
    close (fd);
    _exit (open (path, O_RDWR) == -1);
  }
  /* The kernel says that somebody waits. */
  while (fcntl (fd, F_GETLEASE) == F_WRLCK)
    sched_yield ();
  raw_release (fd);
  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK_EQ (status, 0);
  close (fd);
  unlink (path);
}

static ino_t
inode_of (const char *name)
{
  struct stat st;

  return stat (name, &st) == 0 ? st.st_ino : 0;
}

static void
test_publish (void)
{
  struct image_id id;
  struct image *image = create (&id);
  struct error e;
  char *to;
  ino_t old;
  int fd;

  CHECK (asprintf (&to, "%s.whole", path) != -1);
  /* There is something: only if it may be replaced. */
  fd = open (to, O_WRONLY | O_CREAT, 0644);
  CHECK_EQ (write (fd, "old", 3), 3);
  old = inode_of (to);
  CHECK (image_raw_publish (image, to, true, &e) == -1);
  CHECK_ERROR (&e, EBUSY, "is in use by");
  close (fd);
  CHECK (image_raw_publish (image, to, false, &e) == -1);
  CHECK_ERROR (&e, EEXIST, "not empty");
  CHECK_EQ (inode_of (to), old);
  CHECK_EQ (inode_of (path), id.inode);
  CHECK (image->ops->check (image, &e) == 0);

  CHECK (image_raw_publish (image, to, true, &e) == 0);
  CHECK_EQ (inode_of (to), id.inode);
  CHECK_EQ (inode_of (path), 0);
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (image->ops->flush (image, &e) == 0);
  CHECK (image_raw_is_at (image, to));
  CHECK (image_raw_publish (image, to, false, &e) == 0); /* again */

  /* Nothing there, or an empty file; and moving aside. */
  CHECK (image_raw_move (image, path, &e) == 0);
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (image_raw_publish (image, to, false, &e) == 0);
  write_file ("");
  CHECK (image_raw_move (image, path, &e) == -1);
  CHECK (image_raw_publish (image, path, false, &e) == 0);

  /* Its name is another file's. */
  CHECK (rename (path, to) == 0);
  write_file ("other");
  CHECK (image->ops->check (image, &e) == -1);
  CHECK (image_raw_publish (image, to, true, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "another file");
  CHECK (image_raw_discard (image, &e) == -1);
  CHECK (access (path, F_OK) == 0);
  CHECK (rename (to, path) == 0);
  CHECK (image_raw_discard (image, &e) == 0);
  CHECK (access (path, F_OK) == -1);
  image->ops->close (image);
  free (to);
}

/* ---- Write-back errors: sync_file_range and fdatasync are ours ---- */

static _Atomic (int) pending[2]; /* of the open files, by descriptor */
static _Atomic (int) pending_fd[2];

static int
take_error (int fd)
{
  unsigned i;

  for (i = 0; i < 2; ++i)
    if (pending_fd[i] == fd && (errno = atomic_exchange (&pending[i], 0)))
      return -1;
  return 0;
}

int
sync_file_range (int fd, off_t offset, off_t count, unsigned flags)
{
  CHECK_EQ (flags, SYNC_FILE_RANGE_WAIT_BEFORE);
  CHECK (offset >= SIZE && count == 1); /* no page to wait for */
  return take_error (fd);
}

int
fdatasync (int fd)
{
  return take_error (fd);
}

/* The kernel tells each open file once, whoever asks. */
static void
lose (struct image *image, int num)
{
  const struct raw_image *raw = (struct raw_image *) image;

  pending_fd[0] = raw->fd;
  pending_fd[1] = raw->flush_fd;
  atomic_store (&pending[0], num);
  atomic_store (&pending[1], num);
}

static void
close_lost (struct image *image)
{
  atomic_store (&pending[0], 0); /* its numbers are the next one's */
  atomic_store (&pending[1], 0);
  image->ops->close (image);
  unlink (path);
}

static int
operate (struct image *image, unsigned op, struct error *e)
{
  char buf[100] = { 0 };
  uint64_t next;
  bool data;

  switch (op) {
  case 0: return image->ops->pread (image, buf, 100, 0, e);
  case 1: return image->ops->extent (image, 0, SIZE, &next, &data, e);
  case 2: return image->ops->check (image, e);
  case 3: return image->ops->flush (image, e);
  default: return image->ops->pwrite (image, buf, 100, 0, e);
  }
}

/* Whoever sees it first, all see it from then on. */
static void
test_writeback_error (void)
{
  struct image_id id;
  struct image *image;
  struct error e;
  unsigned first, op;

  for (first = 0; first < 4; ++first) {
    image = create (&id);
    CHECK (operate (image, 4, &e) == 0);
    for (op = 0; op < 5; ++op)
      CHECK (operate (image, op, &e) == 0);
    lose (image, first == 0 ? ENOSPC : EIO);
    CHECK (operate (image, first, &e) == -1);
    for (op = 0; op < 10; ++op) {
      CHECK (operate (image, op % 5, &e) == -1);
      CHECK_ERROR (&e, first == 0 ? ENOSPC : EIO,
                   "could not be written to disk");
    }
    close_lost (image);
  }

  /* Nobody had it open when it was lost. */
  image = create (&id);
  lose (image, EIO);
  image->ops->close (image);
  CHECK_EQ (image_raw_open (path, SIZE, &id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, EIO, "could not be written to disk");
  unlink (path);
}

/* Many look at once: after the first has been told, nobody gets data. */
static _Atomic (bool) told;
static struct image *shared;

static void *
look (void *opaque)
{
  const unsigned op = *(unsigned *) opaque;
  struct error e;
  bool before;

  do {
    before = atomic_load (&told);
    if (operate (shared, op, &e) == -1)
      atomic_store (&told, true);
    else
      CHECK (!before);
  } while (!before);
  return NULL;
}

static void
test_told_once (void)
{
  unsigned ops[] = { 0, 0, 1, 3 }, round, i;
  pthread_t threads[4];
  struct image_id id;

  for (round = 0; round < 50; ++round) {
    shared = create (&id);
    atomic_store (&told, false);
    for (i = 0; i < 4; ++i)
      CHECK (pthread_create (&threads[i], NULL, look, &ops[i]) == 0);
    lose (shared, EIO);
    for (i = 0; i < 4; ++i)
      pthread_join (threads[i], NULL);
    close_lost (shared);
  }
}

/* ---- Punching ---- */

static uint64_t largest_punch, nr_punches;

int
fallocate (int fd, int mode, off_t offset, off_t count)
{
  nr_punches++;
  if ((uint64_t) count > largest_punch)
    largest_punch = (uint64_t) count;
  return (int) syscall (SYS_fallocate, fd, mode, offset, count);
}

/* In pieces, and only where there is data. */
static void
test_punch (void)
{
  const uint64_t mib = 1 << 20, size = UINT64_C (1) << 40;
  CLEANUP_FREE char *buf = calloc (1, 3 * mib);
  struct image_id id;
  struct image *image;
  struct error e;
  struct stat st;
  bool created, data;
  uint64_t next;

  image = image_raw_create (path, size, &id, &created, &e);
  CHECK (image != NULL && buf != NULL);
  CHECK (image->ops->pwrite (image, buf, 3 * mib, mib / 2, &e) == 0);
  CHECK (image->ops->pwrite (image, buf, 100, size - 100, &e) == 0);
  CHECK (image->ops->punch (image, 0, size / 2, &e) == 0);
  CHECK (largest_punch <= mib);
  CHECK (nr_punches >= 3 && nr_punches < 10);
  CHECK (image->ops->extent (image, 0, size, &next, &data, &e) == 0);
  CHECK (!data && next >= size - mib);
  CHECK (image->ops->punch (image, size - 4096, 4096, &e) == 0);
  CHECK (stat (path, &st) == 0);
  CHECK_EQ (st.st_size, size);
  CHECK_EQ (st.st_blocks, 0);
  image->ops->close (image);
  unlink (path);
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
  RUN (test_not_now);
  RUN (test_not_ours);
  RUN (test_in_use);
  RUN (test_lease_broken);
  RUN (test_publish);
  RUN (test_writeback_error);
  RUN (test_told_once);
  RUN (test_punch);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
