/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "segment/liveness.h"
#include "segment/segment-server.h"
#include "unit.h"

#define SIZE (10 << 20)
#define CS 65536

static char *dir, *path;
static int fail_msync;          /* errno */

/* In place of the C library's: the disk can be made to fail. */
int
msync (void *addr, size_t len, int flags)
{
  (void) addr;
  (void) len;
  (void) flags;
  errno = fail_msync;
  return fail_msync ? -1 : 0;
}

static struct segment
serve (void)
{
  struct segment s = SEGMENT_INIT;
  struct error e;

  CHECK (segment_serve (&s, path, SIZE, CS, 0, &e) == 0);
  return s;
}

static void
refuse_to_serve (int num, const char *text)
{
  struct segment s = SEGMENT_INIT;
  struct error e;

  CHECK (segment_serve (&s, path, SIZE, CS, 0, &e) == -1);
  CHECK_ERROR (&e, num, text);
  CHECK (s.fd == -1 && s.mapped == 0);
}

static void
refuse_to_attach (int num, const char *text)
{
  struct segment s = SEGMENT_INIT;
  struct error e;

  CHECK (segment_attach (&s, path, &e) == -1);
  CHECK_ERROR (&e, num, text);
  CHECK (s.fd == -1 && s.mapped == 0);
}

static off_t
file_size (void)
{
  struct stat st;

  CHECK (stat (path, &st) == 0);
  return st.st_size;
}

/* All is allocated, so that there is no SIGBUS.  (A file system may need a
 * block for itself.)
 */
static void
check_space (const struct segment *s)
{
  struct stat st;

  CHECK (fstat (s->fd, &st) == 0);
  CHECK (st.st_blocks * 512 >= st.st_size);
}

static void
poke (off_t offset, const void *data, size_t len)
{
  const int fd = open (path, O_WRONLY);

  CHECK (fd >= 0);
  CHECK (pwrite (fd, data, len, offset) == (ssize_t) len);
  close (fd);
}

static void
test_path (void)
{
  struct error e;
  char *p;

  p = segment_path ("vm1", &e);
  CHECK (p && strcmp (p, "/dev/shm/vm1") == 0);
  free (p);
  p = segment_path ("/x/y", &e);
  CHECK (p && strcmp (p, "/x/y") == 0);
  free (p);
  CHECK (segment_path ("", &e) == NULL);
  CHECK (segment_path ("..", &e) == NULL);
}

static void
publish (struct segment *s)
{
  struct error e;

  CHECK (segment_begin (s, &e) == 0);
  segment_publish (s);
}

/* Nobody attaches before it is published; then a client sees what the
 * server writes, and can write to its window only.
 */
static void
test_publish (void)
{
  struct segment s, c = SEGMENT_INIT;
  struct stat st;
  struct error e;
  pid_t pid;
  int status;

  CHECK (segment_probe (path, &e) == 0);
  refuse_to_attach (EAGAIN, "no such segment");
  s = serve ();
  CHECK (s.fresh);
  CHECK (fstat (s.fd, &st) == 0);
  CHECK_EQ (st.st_mode & 0777, 0600);
  check_space (&s);
  refuse_to_attach (EAGAIN, "not finished");

  publish (&s);
  CHECK (segment_attach (&c, path, &e) == 0);
  CHECK_EQ (map_header (&c.map)->server_pid, getpid ());
  CHECK_EQ (map_header (&c.map)->generation, 1);
  CHECK (liveness_server (c.fd));
  map_doorbell (&c.map)->submitted = 5;
  memset (map_buffer (&c.map, CBW_NR_SLOTS - 1), 1, CBW_SLOT_BUFFER_SIZE);
  CHECK_EQ (map_doorbell (&s.map)->submitted, 5);

  pid = fork ();
  if (pid == 0) {
    signal (SIGSEGV, SIG_DFL);  /* a sanitizer would report it */
    ((volatile struct cbw_snapshot *) map_snapshot (&c.map, 0))->id = 1;
    _exit (0);
  }
  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK (WIFSIGNALED (status) && WTERMSIG (status) == SIGSEGV);

  CHECK (segment_stop (&s, &e) == 0);
  CHECK (!liveness_server (c.fd));
  CHECK_EQ (map_header (&c.map)->state, CBW_SERVER_STOPPED);
  segment_close (&c, false);
  segment_close (&c, false);    /* twice does no harm */
  segment_close (&s, true);
  CHECK (access (path, F_OK) == -1);
}

static void
test_two_servers (void)
{
  struct segment s = serve ();
  struct error e;
  char pid[32];

  publish (&s);
  snprintf (pid, sizeof pid, "process %d", (int) getpid ());
  refuse_to_serve (EBUSY, pid);
  CHECK (segment_probe (path, &e) == -1);
  CHECK_ERROR (&e, EBUSY, pid);
  CHECK (map_header (&s.map)->state == CBW_SERVER_RUNNING);
  segment_close (&s, true);
}

/* A server that was killed, or stopped: the next one takes over. */
static void
test_take_over (void)
{
  struct segment s = serve ();
  struct error e;
  struct bitmap b;
  uint8_t uuid[16];

  publish (&s);
  memcpy (uuid, map_header (&s.map)->uuid, sizeof uuid);
  CHECK (!segment_has_bitmaps (&s, 2, CBW_SNAPSHOT_BITMAPS));
  CHECK (segment_allocate_bitmaps (&s, 2, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  CHECK (segment_has_bitmaps (&s, 2, CBW_SNAPSHOT_BITMAPS));
  CHECK (!segment_has_bitmaps (&s, 2, CBW_BACKUP_BITMAPS));
  CHECK (!segment_has_bitmaps (&s, 3, CBW_SNAPSHOT_BITMAPS));
  b = map_bitmap (&s.map, 2, CBW_BITMAP_DONE, SIZE);
  CHECK_EQ (b.nbits, SIZE / CS);
  bitmap_set (&b, 0, b.nbits);
  segment_close (&s, false);    /* killed: nothing was said */

  s = serve ();
  CHECK (!s.fresh);
  CHECK (memcmp (map_header (&s.map)->uuid, uuid, sizeof uuid) == 0);
  CHECK_EQ (map_header (&s.map)->clean, 0);
  b = map_bitmap (&s.map, 2, CBW_BITMAP_DONE, SIZE);
  CHECK (bitmap_all_set (&b, 0, b.nbits));
  publish (&s);
  CHECK_EQ (map_header (&s.map)->generation, 2);
  /* Allocated anew they are clear. */
  CHECK (segment_allocate_bitmaps (&s, 2, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  CHECK_EQ (bitmap_count (&b, 0, b.nbits), 0);
  /* A backup in that entry gets one more, and the others stay. */
  CHECK (segment_allocate_bitmaps (&s, 2, CBW_BACKUP_BITMAPS, &e) == 0);
  CHECK (segment_has_bitmaps (&s, 2, CBW_BACKUP_BITMAPS));
  CHECK (map_bitmap (&s.map, 2, CBW_BITMAP_DONE, SIZE).words == b.words);
  CHECK (segment_stop (&s, &e) == 0);
  segment_close (&s, false);

  s = serve ();
  CHECK_EQ (map_header (&s.map)->clean, 1);
  segment_close (&s, true);
}

/* The bitmaps of a later version stay where they are, and what this one adds
 * lies elsewhere; a directory that is damaged is refused.
 */
static void
test_directory (void)
{
  struct segment s = serve ();
  const struct cbw_geometry *g = &s.map.geometry;
  const off_t at = (off_t) g->directory_offset;
  struct cbw_bitmap_record r = {
    .state = CBW_BITMAP_IN_USE, .kind = 100,
    .owner_kind = CBW_OWNER_DISK, .granularity = CBW_HOT_REGION,
    .offset = layout_file_size (g, 3), .size = CBW_PAGE,
  };
  struct error e;
  char bits = 0x55;

  r.sum = layout_sum (&r.kind, offsetof (struct cbw_bitmap_record, sum) -
                      offsetof (struct cbw_bitmap_record, kind));
  publish (&s);
  CHECK (segment_allocate_bitmaps (&s, 0, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  segment_close (&s, false);
  CHECK (truncate (path, (off_t) r.offset + CBW_PAGE) == 0);
  poke ((off_t) r.offset, &bits, 1);
  poke (at + 600 * (off_t) sizeof r, &r, sizeof r);

  s = serve ();
  CHECK (segment_has_bitmaps (&s, 0, CBW_SNAPSHOT_BITMAPS));
  CHECK (!segment_has_bitmaps (&s, 1, CBW_SNAPSHOT_BITMAPS));
  CHECK (segment_allocate_bitmaps (&s, 1, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  CHECK_EQ (s.map.bitmaps[1][CBW_BITMAP_ACCESS], r.offset + CBW_PAGE);
  CHECK_EQ (s.map.base[r.offset], 0x55);
  check_space (&s);
  segment_close (&s, false);

  r.size += CBW_PAGE;
  r.sum = layout_sum (&r.kind, offsetof (struct cbw_bitmap_record, sum) -
                      offsetof (struct cbw_bitmap_record, kind));
  poke (at + 600 * (off_t) sizeof r, &r, sizeof r);
  refuse_to_serve (EBADMSG, "its bitmap directory: it overlaps record");
  CHECK (unlink (path) == 0);
}

/* Features that may be ignored are, until a server begins: it keeps none of
 * those that it does not know.  Those that must be known are refused.
 */
static void
test_features (void)
{
  struct segment s = serve (), c = SEGMENT_INIT;
  const uint64_t unknown = UINT64_C (1) << 40;
  struct error e;

  publish (&s);
  segment_close (&s, false);
  poke (offsetof (struct cbw_header, compat), &unknown, sizeof unknown);
  CHECK (segment_attach (&c, path, &e) == 0);
  s = serve ();
  CHECK (!s.fresh);
  CHECK_EQ (map_header (&s.map)->compat, unknown);
  CHECK (segment_begin (&s, &e) == 0);
  CHECK_EQ (map_header (&c.map)->compat, 0);
  segment_close (&c, false);
  segment_close (&s, false);

  poke (offsetof (struct cbw_header, incompat), &unknown, sizeof unknown);
  refuse_to_serve (EPROTO, "features that this program does not know");
  refuse_to_attach (EPROTO, "features that this program does not know");
  CHECK (segment_probe (path, &e) == -1);
  CHECK_ERROR (&e, EPROTO, "features that this program does not know");
  CHECK (segment_look (&c, path, &e) == -1);
  CHECK_ERROR (&e, EPROTO, "features that this program does not know");
  CHECK (unlink (path) == 0);
}

/* What the disk does not have is not called clean, and while it does not
 * have that it is not, nothing is changed.
 */
static void
test_write_back_fails (void)
{
  struct segment s = serve ();
  struct error e;

  if (!segment_is_volatile (&s)) {
    fail_msync = EIO;
    CHECK (segment_begin (&s, &e) == -1);
    CHECK_ERROR (&e, EIO, "cannot be written back");
    fail_msync = 0;

    publish (&s);
    fail_msync = EIO;
    CHECK (segment_stop (&s, &e) == -1);
    CHECK_ERROR (&e, EIO, "cannot be written back");
    fail_msync = 0;
    CHECK_EQ (map_header (&s.map)->clean, 0);
    CHECK_EQ (map_header (&s.map)->state, CBW_SERVER_STOPPED);
  }
  segment_close (&s, true);
}

/* A snapshot whose bitmaps might not be found after a crash of the host is
 * not made.
 */
static void
test_directory_write_back (void)
{
  struct segment s = serve ();
  struct error e;

  if (!segment_is_volatile (&s)) {
    publish (&s);
    fail_msync = EIO;
    CHECK (segment_allocate_bitmaps (&s, 3, CBW_SNAPSHOT_BITMAPS, &e) == -1);
    CHECK_ERROR (&e, EIO, "the bitmap directory cannot be written back");
    CHECK (segment_allocate_bitmaps (&s, 3, CBW_SNAPSHOT_BITMAPS, &e) == -1);
    fail_msync = 0;
    CHECK (segment_allocate_bitmaps (&s, 3, CBW_SNAPSHOT_BITMAPS, &e) == 0);
    fail_msync = EIO;           /* nothing is new */
    CHECK (segment_allocate_bitmaps (&s, 3, CBW_SNAPSHOT_BITMAPS, &e) == 0);
    fail_msync = 0;
  }
  segment_close (&s, true);
}

/* The geometry of what is there stays, whatever is asked for. */
static void
test_other_geometry (void)
{
  struct segment s = serve ();
  struct error e;

  publish (&s);
  segment_close (&s, false);
  s = (struct segment) SEGMENT_INIT;
  CHECK (segment_serve (&s, path, 2 * SIZE, 2 * CS, 0, &e) == 0);
  CHECK_EQ (s.map.geometry.disk_size, SIZE);
  CHECK_EQ (s.map.geometry.cluster_size, CS);
  segment_close (&s, true);
}

/* A server killed while it made the segment: the next begins anew. */
static void
test_unfinished (void)
{
  struct segment s = serve ();
  struct error e;

  segment_close (&s, false);
  CHECK (file_size () > 0);
  CHECK (segment_probe (path, &e) == 0);
  refuse_to_attach (EAGAIN, "not finished");
  s = serve ();
  CHECK (s.fresh);
  segment_close (&s, true);
}

/* Foreign files are refused and untouched. */
static void
test_foreign (void)
{
  static const char text[] = "#!/bin/sh\necho this is not a segment\n";
  char back[sizeof text];
  struct error e;
  int fd;

  fd = open (path, O_CREAT | O_EXCL | O_RDWR, 0600);
  CHECK (write (fd, text, sizeof text) == sizeof text);
  refuse_to_serve (EINVAL, "not a segment");
  refuse_to_attach (EINVAL, "not a segment");
  CHECK (segment_probe (path, &e) == -1);
  CHECK (pread (fd, back, sizeof back, 0) == sizeof back);
  CHECK (memcmp (text, back, sizeof back) == 0);
  CHECK_EQ (file_size (), sizeof text);
  close (fd);
  unlink (path);

  CHECK (mkdir (path, 0700) == 0);
  CHECK (segment_probe (path, &e) == -1);
  rmdir (path);
}

static void
test_damaged (void)
{
  struct segment s = serve ();
  uint32_t version = CBW_VERSION + 1;
  off_t size;

  publish (&s);
  segment_close (&s, false);
  size = file_size ();

  CHECK (truncate (path, size - 1) == 0);
  refuse_to_serve (EBADMSG, "truncated");
  refuse_to_attach (EBADMSG, "truncated");
  CHECK (truncate (path, CBW_PAGE) == 0);
  refuse_to_attach (EBADMSG, "truncated");
  CHECK (truncate (path, 100) == 0);
  refuse_to_attach (EINVAL, "not a segment");
  CHECK_EQ (file_size (), 100);
  unlink (path);

  s = serve ();
  publish (&s);
  segment_close (&s, false);
  poke (offsetof (struct cbw_header, version), &version, sizeof version);
  refuse_to_serve (EPROTO, "another version");
  refuse_to_attach (EPROTO, "another version");
  version = 3;
  poke (offsetof (struct cbw_header, version), &version, sizeof version);
  refuse_to_serve (EPROTO, "version 3");
  refuse_to_attach (EPROTO, "version 3");
  version = CBW_VERSION;
  poke (offsetof (struct cbw_header, version), &version, sizeof version);
  poke (offsetof (struct cbw_header, geometry), "\x01", 1);
  refuse_to_serve (EBADMSG, "checksum");
  refuse_to_attach (EBADMSG, "checksum");
  unlink (path);
}

static void
test_no_directory (void)
{
  struct error e;
  char *p;

  CHECK (asprintf (&p, "%s/no/such", dir) != -1);
  CHECK (segment_probe (p, &e) == -1);
  CHECK_ERROR (&e, ENOENT, "cannot make a segment");
  free (p);
}

/* Looking needs no server, leaves no trace, sees the bitmaps and cannot
 * write.
 */
static void
test_look (void)
{
  struct segment s, l = SEGMENT_INIT;
  struct bitmap done;
  struct error e;
  pid_t pid;
  int status;

  CHECK (segment_look (&l, path, &e) == -1);
  CHECK_ERROR (&e, ENOENT, "no such segment");
  s = serve ();
  CHECK (segment_look (&l, path, &e) == -1);
  CHECK_ERROR (&e, EAGAIN, "not finished");
  publish (&s);
  CHECK (segment_allocate_bitmaps (&s, 0, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  done = map_bitmap (&s.map, 0, CBW_BITMAP_DONE, SIZE);
  bitmap_set (&done, 3, 4);

  CHECK (segment_look (&l, path, &e) == 0);
  CHECK (segment_find_bitmaps (&l, 0, CBW_SNAPSHOT_BITMAPS));
  CHECK (!segment_find_bitmaps (&l, 1, CBW_SNAPSHOT_BITMAPS));
  CHECK (liveness_server (l.fd));
  done = map_bitmap (&l.map, 0, CBW_BITMAP_DONE, SIZE);
  CHECK (bitmap_test (&done, 3) && !bitmap_test (&done, 4));
  pid = fork ();
  CHECK (pid >= 0);
  if (pid == 0) {
    map_doorbell (&l.map)->submitted = 1;
    _exit (0);
  }
  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK (!WIFEXITED (status) || WEXITSTATUS (status) != 0);

  /* What the server adds is seen without mapping it again. */
  CHECK (segment_allocate_bitmaps (&s, 1, CBW_SNAPSHOT_BITMAPS, &e) == 0);
  CHECK (segment_find_bitmaps (&l, 1, CBW_SNAPSHOT_BITMAPS));
  done = map_bitmap (&l.map, 1, CBW_BITMAP_DONE, SIZE);
  CHECK (!bitmap_test (&done, 0));

  segment_close (&s, false);
  CHECK (!liveness_server (l.fd));
  segment_close (&l, false);
  CHECK (segment_look (&l, path, &e) == 0);
  segment_close (&l, true);
}

/* A segment that is refused after all has not been touched: what an earlier
 * server left in the request list is taken up only when this one begins.
 */
static void
test_request_list (void)
{
  struct segment s = serve ();
  struct error e;

  publish (&s);
  atomic_store (&map_slot (&s.map, 9)->state, 3 | 0x800043u << 8); /* RUNNING */
  atomic_store (&map_header (&s.map)->idle_threads, 7);
  segment_close (&s, false);

  s = serve ();
  CHECK (!s.fresh);
  CHECK_EQ (map_slot (&s.map, 9)->state, 3 | 0x800043u << 8);
  CHECK_EQ (map_header (&s.map)->idle_threads, 7);
  CHECK_EQ (map_doorbell (&s.map)->pending, 0);
  CHECK (segment_begin (&s, &e) == 0);
  CHECK_EQ (map_slot (&s.map, 9)->state, 2 | 0x800043u << 8); /* SUBMITTED */
  CHECK_EQ (map_header (&s.map)->idle_threads, 0);
  CHECK_EQ (map_doorbell (&s.map)->pending, 1 << 9);
  segment_close (&s, true);
}

/* No client outlives the host: what is there may be the word of one request
 * and the buffer of another.
 */
static void
test_requests_before_boot (void)
{
  struct segment s = serve ();
  struct error e;

  publish (&s);
  atomic_store (&map_slot (&s.map, 9)->state, 3 | 0x800043u << 8); /* RUNNING */
  atomic_store (&map_slot (&s.map, 63)->state, 2 | 0x80003fu << 8);
  atomic_store (&map_doorbell (&s.map)->pending, UINT64_C (1) << 63);
  map_header (&s.map)->boot_id[3] ^= 1;
  segment_close (&s, false);

  s = serve ();
  CHECK (segment_begin (&s, &e) == 0);
  CHECK_EQ (map_slot (&s.map, 9)->state, 0);
  CHECK_EQ (map_slot (&s.map, 63)->state, 0);
  CHECK_EQ (map_doorbell (&s.map)->pending, 0);
  segment_close (&s, true);
}

/* What is no file is refused, and not waited for. */
static void
test_pipe (void)
{
  struct segment l = SEGMENT_INIT;
  struct error e;

  CHECK (mkfifo (path, 0600) == 0);
  CHECK (segment_look (&l, path, &e) == -1);
  CHECK_ERROR (&e, EINVAL, "must be a regular file");
  refuse_to_attach (EINVAL, "must be a regular file");
  refuse_to_serve (EINVAL, "must be a regular file");
  CHECK (unlink (path) == 0);
}

/* Server and clients refuse it; EPERM but for links. */
static void
refuse_all (int num, const char *text)
{
  struct segment l = SEGMENT_INIT;
  struct error e;

  refuse_to_serve (num, text);
  refuse_to_attach (num, text);
  CHECK (segment_probe (path, &e) == -1);
  CHECK_ERROR (&e, num, text);
  CHECK (segment_look (&l, path, &e) == -1);
  CHECK_ERROR (&e, num, text);
  CHECK (l.fd == -1);
}

/* A segment that others may open is refused, and so is a file that would be
 * made into one; it is not changed.
 */
static void
test_open_to_others (void)
{
  static const mode_t modes[] = { 0640, 0620, 0610, 0604, 0602, 0601, 0666 };
  struct segment s = serve ();
  size_t i;
  int fd;

  publish (&s);
  segment_close (&s, false);
  for (i = 0; i < sizeof modes / sizeof modes[0]; ++i) {
    CHECK (chmod (path, modes[i]) == 0);
    refuse_all (EPERM, "other users may open it");
  }
  CHECK (chmod (path, 0600) == 0);
  s = serve ();
  CHECK (!s.fresh);
  segment_close (&s, false);
  CHECK (unlink (path) == 0);

  fd = open (path, O_CREAT | O_EXCL | O_RDWR, 0600);
  CHECK (fd >= 0 && fchmod (fd, 0644) == 0);
  refuse_all (EPERM, "other users may open it");
  CHECK_EQ (file_size (), 0);
  close (fd);
  CHECK (unlink (path) == 0);
}

/* Another name of the file may be where others find it, and a symbolic
 * link may lead elsewhere tomorrow.
 */
static void
test_links (void)
{
  struct segment s = serve ();
  char *other;

  publish (&s);
  segment_close (&s, false);
  CHECK (asprintf (&other, "%s/other", dir) != -1);
  CHECK (link (path, other) == 0);
  refuse_all (EPERM, "hard links");
  CHECK (unlink (path) == 0 && symlink (other, path) == 0);
  refuse_all (ELOOP, "is a symbolic link");
  CHECK (unlink (path) == 0 && rename (other, path) == 0);
  s = serve ();
  CHECK (!s.fresh);
  segment_close (&s, true);
  free (other);
}

/* Another user's is refused, but that root may look, and that root may
 * become that user before it takes the segment or attaches to it.
 */
static void
test_other_user (void)
{
  struct segment s = serve (), l = SEGMENT_INIT;
  struct error e;

  publish (&s);
  segment_close (&s, false);
  if (geteuid () == 0) {        /* who else could make one? */
    CHECK (chown (path, 65534, 65534) == 0);
    refuse_to_serve (EPERM, "belongs to another user (id 65534");
    refuse_to_attach (EPERM, "belongs to another user (id 65534");
    CHECK (segment_probe (path, &e) == 0);
    CHECK (segment_look (&l, path, &e) == 0);
    segment_close (&l, false);
    CHECK (segment_try_attach (&l, path, &e) == 0);
    segment_close (&l, false);
    CHECK (chmod (path, 0604) == 0);
    refuse_to_serve (EPERM, "belongs to another user");
    CHECK (segment_probe (path, &e) == -1);
    CHECK_ERROR (&e, EPERM, "other users may open it");
    CHECK (segment_look (&l, path, &e) == -1);
    CHECK_ERROR (&e, EPERM, "other users may open it");
  }
  CHECK (unlink (path) == 0);
}

/* Mode 0600 it is, whatever the umask. */
static void
test_umask (void)
{
  static const mode_t masks[] = { 0, 0022, 0277, 0777 };
  const mode_t mask = umask (0);
  struct segment s;
  struct stat st;
  size_t i;

  for (i = 0; i < sizeof masks / sizeof masks[0]; ++i) {
    umask (masks[i]);
    s = serve ();
    CHECK (stat (path, &st) == 0);
    CHECK_EQ (st.st_mode & 07777, 0600);
    segment_close (&s, true);
  }
  umask (mask);
}

static void
test_boot_id (void)
{
  uint8_t a[16], b[16], zero[16] = { 0 };

  segment_boot_id (a);
  segment_boot_id (b);
  CHECK (memcmp (a, b, 16) == 0);
  CHECK (memcmp (a, zero, 16) != 0);
}

int
main (void)
{
  unit_start ();
  dir = unit_tmpdir ();
  CHECK (asprintf (&path, "%s/shm", dir) != -1);
  RUN (test_path);
  RUN (test_publish);
  RUN (test_two_servers);
  RUN (test_take_over);
  RUN (test_directory);
  RUN (test_features);
  RUN (test_write_back_fails);
  RUN (test_directory_write_back);
  RUN (test_other_geometry);
  RUN (test_unfinished);
  RUN (test_foreign);
  RUN (test_damaged);
  RUN (test_no_directory);
  RUN (test_look);
  RUN (test_request_list);
  RUN (test_requests_before_boot);
  RUN (test_pipe);
  RUN (test_open_to_others);
  RUN (test_links);
  RUN (test_other_user);
  RUN (test_umask);
  RUN (test_boot_id);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
