/* SPDX-License-Identifier: BSD-3-Clause */

/* Raw files as targets: which file is one, what is refused, and what is never
 * removed.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "image/raw/raw.h"
#include "raw-env.h"
#include "unit.h"

static void
test_not_a_file (void)
{
  struct image_id id;
  struct error e;
  bool created;

  CHECK (image_raw_create (raw_env.dir, RAW_SIZE, &id, &created, &e) == NULL);
  CHECK (image_raw_create ("/dev/null", RAW_SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EINVAL, "regular file");
  CHECK (access ("/dev/null", F_OK) == 0);
}

static void
test_locked (void)
{
  struct flock shared = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
  struct image_id id;
  struct image *image = raw_env_create (&id), *other;
  struct error e;
  int fd;

  CHECK_EQ (raw_env_open (&id, &other, &e), IMAGE_RAW_NOT_NOW);
  CHECK (other == NULL);
  CHECK_ERROR (&e, EBUSY, "is open for writing in");
  image->ops->close (image);

  /* Another program may lock it, if it only reads it. */
  fd = open (raw_env.path, O_RDONLY);
  CHECK (fcntl (fd, F_OFD_SETLK, &shared) == 0);
  CHECK_EQ (raw_env_open (&id, &other, &e), IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, EBUSY, "locked");
  close (fd);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_OPENED);
  image->ops->close (image);
  unlink (raw_env.path);
}

/* Does the open file, which has no name any more, hold nothing? */
static bool
is_emptied (int fd)
{
  struct stat st;

  CHECK (fstat (fd, &st) == 0);
  CHECK_EQ (st.st_nlink, 0);
  return st.st_size == 0 && st.st_blocks == 0;
}

/* A target with data in it, closed. */
static void
make_target (struct image_id *id)
{
  struct image *image = raw_env_create (id);
  struct error e;

  CHECK (image->ops->pwrite (image, "precious", 8, 65536, &e) == 0);
  image->ops->close (image);
}

/* Clients read it: it is taken over and removed all the same; and they do not
 * keep its space if it was open here.  But nobody may have it open for writing.
 */
static void
test_readers (void)
{
  const int modes[] = { O_WRONLY, O_RDWR };
  struct image_id id;
  struct image *image;
  int reader, writer;
  struct error e;
  unsigned i;

  make_target (&id);
  reader = open (raw_env.path, O_RDONLY | O_NONBLOCK);
  CHECK (reader >= 0);
  for (i = 0; i < 2; ++i) {
    writer = open (raw_env.path, modes[i]);
    CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_NOT_NOW);
    CHECK_ERROR (&e, EBUSY, "is open for writing in");
    CHECK (image_raw_remove (raw_env.path, RAW_SIZE, &id, &e) == -1);
    CHECK_ERROR (&e, EBUSY, "is open for writing in");
    close (writer);
  }
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_OPENED);
  image->ops->close (image);
  CHECK (image_raw_remove_old (raw_env.path, &e) == -1); /* by its name alone */
  CHECK_ERROR (&e, EBUSY, "is in use by");
  CHECK (image_raw_remove (raw_env.path, RAW_SIZE, &id, &e) == 0);
  CHECK (access (raw_env.path, F_OK) == -1);
  CHECK (!is_emptied (reader)); /* it might be another's after all */
  close (reader);

  make_target (&id);
  reader = open (raw_env.path, O_RDONLY);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_OPENED);
  CHECK (image_raw_discard (image, &e) == 0);
  CHECK (access (raw_env.path, F_OK) == -1);
  CHECK (is_emptied (reader));
  image->ops->close (image);
  close (reader);
}

/* Somebody has given it another name meanwhile: that has its data. */
static void
test_kept (void)
{
  char *kept, got[8];
  struct image_id id;
  struct image *image;
  struct error e;
  int fd;

  CHECK (asprintf (&kept, "%s.kept", raw_env.path) != -1);
  make_target (&id);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_OPENED);
  CHECK (link (raw_env.path, kept) == 0);
  CHECK (image_raw_discard (image, &e) == 0);
  image->ops->close (image);
  CHECK (access (raw_env.path, F_OK) == -1);
  fd = open (kept, O_RDONLY);
  CHECK_EQ (pread (fd, got, 8, 65536), 8);
  CHECK (memcmp (got, "precious", 8) == 0);
  close (fd);
  unlink (kept);
  free (kept);
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

  raw_env_write ("precious");
  fd = open (raw_env.path, O_RDONLY);
  CHECK (fd >= 0);
  CHECK (image_raw_create (raw_env.path, RAW_SIZE, &id, &created, &e) == NULL);
  CHECK_ERROR (&e, EBUSY, "is in use by");
  CHECK (!created);
  CHECK (image_raw_remove_old (raw_env.path, &e) == -1);
  CHECK_ERROR (&e, EBUSY, "is in use by");
  CHECK (access (raw_env.path, F_OK) == 0);
  close (fd);
  CHECK (image_raw_remove_old (raw_env.path, &e) == 0);
  CHECK (access (raw_env.path, F_OK) == -1);
  CHECK (image_raw_remove_old (raw_env.path, &e) == 0);
}

static void
test_replaced (void)
{
  struct image_id id;
  struct image *image = raw_env_create (&id);
  struct error e;
  char *other;

  image->ops->close (image);
  CHECK (truncate (raw_env.path, RAW_SIZE - 1) == 0);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ESTALE, "resized");

  /* Another file of the right size under its name. */
  CHECK (asprintf (&other, "%s.other", raw_env.path) != -1);
  CHECK (rename (raw_env.path, other) == 0);
  raw_env_write ("");
  CHECK (truncate (raw_env.path, RAW_SIZE) == 0);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ESTALE, "not the file");

  unlink (raw_env.path);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_LOST);
  CHECK_ERROR (&e, ENOENT, "cannot open");
  unlink (other);
  free (other);
}

/* What proves nothing: it may be there, and is not broken for good. */
static void
test_not_now (void)
{
  struct image_id id, elsewhere;
  struct image *image = raw_env_create (&id);
  char *away, *inside;
  struct error e;
  struct rlimit old, none;

  image->ops->close (image);
  elsewhere = (struct image_id) { id.device + 1, id.inode };
  CHECK_EQ (raw_env_open (&elsewhere, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, EBUSY, "not mounted");

  CHECK (getrlimit (RLIMIT_NOFILE, &old) == 0);
  none = (struct rlimit) { 0, old.rlim_max };
  CHECK (setrlimit (RLIMIT_NOFILE, &none) == 0);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK (setrlimit (RLIMIT_NOFILE, &old) == 0);
  CHECK_ERROR (&e, EMFILE, "cannot open");

  CHECK (asprintf (&away, "%s.away", raw_env.path) != -1);
  CHECK (rename (raw_env.path, away) == 0);
  CHECK (symlink (away, raw_env.path) == 0);
  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ELOOP, "symbolic link");
  unlink (raw_env.path);
  /* Another file system, in its place. */
  CHECK_EQ (raw_env_open (&elsewhere, &image, &e), IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ENOENT, "not mounted");
  CHECK (rename (away, raw_env.path) == 0);

  /* No directory. */
  CHECK (asprintf (&inside, "%s.dir/file", raw_env.path) != -1);
  CHECK_EQ (image_raw_open (inside, RAW_SIZE, &id, &image, &e),
            IMAGE_RAW_NOT_NOW);
  CHECK_ERROR (&e, ENOENT, "cannot open");

  CHECK_EQ (raw_env_open (&id, &image, &e), IMAGE_RAW_OPENED);
  image->ops->close (image);
  unlink (raw_env.path);
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
    CHECK_EQ (raw_env_open (id, &image, &e), IMAGE_RAW_NOT_NOW);
    CHECK_ERROR (&e, num, why);
    CHECK (image_raw_remove (raw_env.path, RAW_SIZE, id, &e) == -1);
    CHECK_ERROR (&e, num, why);
  }
  else {
    CHECK (image_raw_create (raw_env.path, RAW_SIZE,
                             &(struct image_id) { 0, 0 }, &created,
                             &e) == NULL);
    CHECK_ERROR (&e, num, why);
    CHECK (!created);
    CHECK (image_raw_remove_unused (raw_env.path, 0, &e) == -1);
    CHECK_ERROR (&e, num, why);
  }
  CHECK (access (raw_env.path, F_OK) == 0);
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

  CHECK (asprintf (&link_path, "%s.link", raw_env.path) != -1);
  for (fresh = 0; fresh < 2; ++fresh) {
    if (fresh)
      raw_env_write ("");
    else {
      image = raw_env_create (&id);
      image->ops->close (image);
    }
    CHECK (chmod (raw_env.path, 0640) == 0);
    expect_refused (fresh ? NULL : &id, EPERM, "other users may open it");
    CHECK (chmod (raw_env.path, 0600) == 0);
    CHECK (link (raw_env.path, link_path) == 0);
    expect_refused (fresh ? NULL : &id, EPERM, "names");
    CHECK (unlink (link_path) == 0);
    if (geteuid () == 0) {
      CHECK (chown (raw_env.path, 1, (gid_t) -1) == 0);
      expect_refused (fresh ? NULL : &id, EPERM, "another user");
      CHECK (chown (raw_env.path, 0, (gid_t) -1) == 0);
    }
    if (fresh)
      CHECK (image_raw_remove_unused (raw_env.path, 0, &e) == 0);
    else
      CHECK (image_raw_remove (raw_env.path, RAW_SIZE, &id, &e) == 0);
    CHECK (access (raw_env.path, F_OK) == -1);
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

  raw_env_write ("");
  for (i = 0; i < 3; ++i) {
    CHECK (pipe (tell) == 0);
    pid = fork ();
    if (pid == 0) {
      const int fd = open (raw_env.path, modes[i]);

      close (tell[1]);
      _exit (fd == -1 || read (tell[0], &c, 1) != 0);
    }
    close (tell[0]);
    /* It waits for us from the moment in which it has it open. */
    while (image_raw_check_old (raw_env.path, true, &e) == 0)
      ;
    CHECK_ERROR (&e, EBUSY, "is in use by");
    CHECK (image_raw_remove_old (raw_env.path, &e) == -1);
    CHECK (image_raw_remove_unused (raw_env.path, 0, &e) == -1);
    close (tell[1]);
    CHECK (waitpid (pid, &status, 0) == pid);
    CHECK_EQ (status, 0);
    CHECK (access (raw_env.path, F_OK) == 0);
  }
  CHECK (image_raw_remove_old (raw_env.path, &e) == 0);
  CHECK (access (raw_env.path, F_OK) == -1);

  CHECK (symlink ("/dev/null", raw_env.path) == 0);
  CHECK (image_raw_remove_old (raw_env.path, &e) == -1);
  CHECK_ERROR (&e, EINVAL, "regular file");
  unlink (raw_env.path);
}

/* Who opens the file while it is held waits, or fails, and does us no harm. */
static void
test_lease_broken (void)
{
  int fd, status;
  char *to;
  struct error e;
  pid_t pid;

  raw_env_write ("");
  fd = open (raw_env.path, O_RDONLY);
  CHECK (raw_lease (fd, raw_env.path, &e) == 0);
  CHECK (open (raw_env.path, O_RDONLY | O_NONBLOCK) == -1);
  CHECK_EQ (errno, EWOULDBLOCK);
  raw_release (fd);
  CHECK (raw_lease (fd, raw_env.path, &e) == 0);
  pid = fork ();
  if (pid == 0) {
    close (fd);
    _exit (open (raw_env.path, O_RDWR) == -1);
  }
  /* The kernel says that somebody waits. */
  while (fcntl (fd, F_GETLEASE) == F_WRLCK)
    sched_yield ();
  CHECK (asprintf (&to, "%s.replaced", raw_env.path) != -1);
  CHECK (rename (raw_env.path, to) == 0);
  CHECK_EQ (waitpid (pid, &status, WNOHANG), 0);
  raw_release (fd);
  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK_EQ (status, 0);

  /* One that reads does not break the lease against writers. */
  CHECK (raw_lease_reading (fd, to, &e) == 0);
  CHECK (open (to, O_RDWR | O_NONBLOCK) == -1);
  CHECK_EQ (errno, EWOULDBLOCK);
  raw_release (fd);
  CHECK (raw_lease_reading (fd, to, &e) == 0);
  close (open (to, O_RDONLY | O_NONBLOCK));
  CHECK_EQ (fcntl (fd, F_GETLEASE), F_RDLCK);
  close (fd);
  unlink (to);
  free (to);
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
  struct image *image = raw_env_create (&id);
  struct error e;
  char *to;
  ino_t old;
  int fd;

  CHECK (asprintf (&to, "%s.whole", raw_env.path) != -1);
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
  CHECK_EQ (inode_of (raw_env.path), id.inode);
  CHECK (image->ops->check (image, &e) == 0);

  CHECK (image_raw_publish (image, to, true, &e) == 0);
  CHECK_EQ (inode_of (to), id.inode);
  CHECK_EQ (inode_of (raw_env.path), 0);
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (image->ops->flush (image, &e) == 0);
  CHECK (image_raw_is_at (image, to));
  CHECK (image_raw_publish (image, to, false, &e) == 0); /* again */

  /* Nothing there, or an empty file; and moving aside. */
  CHECK (image_raw_move (image, raw_env.path, &e) == 0);
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (image_raw_publish (image, to, false, &e) == 0);
  raw_env_write ("");
  CHECK (image_raw_move (image, raw_env.path, &e) == -1);
  CHECK (image_raw_publish (image, raw_env.path, false, &e) == 0);

  /* Its name is another file's. */
  CHECK (rename (raw_env.path, to) == 0);
  raw_env_write ("other");
  CHECK (image->ops->check (image, &e) == -1);
  CHECK (image_raw_publish (image, to, true, &e) == -1);
  CHECK_ERROR (&e, ESTALE, "another file");
  CHECK (image_raw_discard (image, &e) == -1);
  CHECK (access (raw_env.path, F_OK) == 0);
  CHECK (rename (to, raw_env.path) == 0);
  CHECK (image_raw_discard (image, &e) == 0);
  CHECK (access (raw_env.path, F_OK) == -1);
  image->ops->close (image);
  free (to);
}

int
main (void)
{
  unit_start ();
  raw_env_start ();
  RUN (test_not_a_file);
  RUN (test_locked);
  RUN (test_readers);
  RUN (test_kept);
  RUN (test_open_here);
  RUN (test_replaced);
  RUN (test_not_now);
  RUN (test_not_ours);
  RUN (test_in_use);
  RUN (test_lease_broken);
  RUN (test_publish);
  raw_env_end ();
  return unit_end ();
}
