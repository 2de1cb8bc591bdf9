/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of a qcow2 image's snapshots, sound, replaced while it is read,
 * and in thousands of damaged forms.
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "image/qcow2/qcow2-table.h"
#include "unit.h"
#include "utils/rounding.h"

#define CLUSTER 65536u
#define DISK (UINT64_C (1) << 30)

/* An image in memory, and one in a file. */
static unsigned char image[6 * CLUSTER];
static int fd;
static struct qcow2_table table;
static struct error e;

static void
put_16 (size_t at, uint16_t v)
{
  v = htobe16 (v);
  memcpy (image + at, &v, sizeof v);
}

static void
put_32 (size_t at, uint32_t v)
{
  v = htobe32 (v);
  memcpy (image + at, &v, sizeof v);
}

static void
put_64 (size_t at, uint64_t v)
{
  v = htobe64 (v);
  memcpy (image + at, &v, sizeof v);
}

static void
put_pointer (uint32_t nr, uint64_t offset)
{
  put_32 (QCOW2_POINTER_OFFSET, nr);
  put_64 (QCOW2_POINTER_OFFSET + 4, offset);
}

static void
put_header (uint32_t version, uint32_t nr, uint64_t offset)
{
  memset (image, 0, sizeof image);
  put_32 (0, UINT32_C (0x514649fb));
  put_32 (4, version);
  put_32 (20, 16);              /* clusters of 64 KiB */
  put_64 (24, DISK);
  put_pointer (nr, offset);
  put_32 (100, 104);
}

/* An entry at byte "at".  Where does the next begin? */
static size_t
put_entry (size_t at, const char *id, const char *name, uint32_t date,
           uint32_t extra)
{
  const size_t id_len = strlen (id), name_len = strlen (name);

  put_64 (at, 5 * CLUSTER);
  put_32 (at + 8, 2);           /* level 1 entries, of 512 MiB each */
  put_16 (at + 12, (uint16_t) id_len);
  put_16 (at + 14, (uint16_t) name_len);
  put_32 (at + 16, date);
  put_32 (at + 20, 7);
  put_64 (at + 24, 1234567);
  put_32 (at + 32, 55);
  put_32 (at + 36, extra);
  if (extra >= 8)
    put_64 (at + 40, UINT64_C (1) << 33);
  if (extra >= 16)
    put_64 (at + 48, DISK / 2 + 512);
  memcpy (image + at + 40 + extra, id, id_len);
  memcpy (image + at + 40 + extra + id_len, name, name_len);
  return round_up (at + 40 + extra + id_len + name_len, 8);
}

/* Three snapshots, with 0, 8 and 24 bytes of extra data. */
static void
put_sample (uint32_t version)
{
  size_t at = CLUSTER;

  put_header (version, 3, CLUSTER);
  at = put_entry (at, "1", "one", 100, 0);
  at = put_entry (at, "2", "", 300, 8);
  put_entry (at, "33", "a, b/\xc3\xa4", 200, 24);
}

static void
store (size_t len)
{
  CHECK (ftruncate (fd, 0) == 0);
  CHECK (pwrite (fd, image, len, 0) == (ssize_t) len);
}

static int
read_table (void)
{
  store (sizeof image);
  return qcow2_table_read (fd, &table, &e);
}

static void
test_sound (void)
{
  const struct qcow2_snapshot *s;
  uint32_t version;

  for (version = 2; version <= 3; ++version) {
    put_sample (version);
    CHECK_EQ (read_table (), 0);
    CHECK_EQ (table.version, version);
    CHECK_EQ (table.nr, 3);
    CHECK_EQ (table.cluster_size, CLUSTER);
    CHECK_EQ (table.size, DISK);
    CHECK (!table.encrypted);

    s = &table.snapshots[0];
    CHECK (strcmp (s->id, "1") == 0 && strcmp (s->name, "one") == 0);
    CHECK_EQ (s->disk_size, DISK);      /* it does not say: as now */
    CHECK_EQ (s->vm_state_size, 55);
    CHECK_EQ (s->vm_clock_ns, 1234567);
    s = &table.snapshots[1];
    CHECK (strcmp (s->id, "2") == 0 && strcmp (s->name, "") == 0);
    CHECK_EQ (s->disk_size, DISK);
    CHECK_EQ (s->vm_state_size, UINT64_C (1) << 33);
    s = &table.snapshots[2];
    CHECK (strcmp (s->id, "33") == 0);
    CHECK (strcmp (s->name, "a, b/\xc3\xa4") == 0);
    CHECK_EQ (s->disk_size, DISK / 2 + 512);
    CHECK_EQ (s->date_sec, 200);
    CHECK_EQ (s->date_nsec, 7);
    CHECK_EQ (s->l1_offset, 5 * CLUSTER);
    CHECK_EQ (s->l1_size, 2);
    CHECK_EQ (qcow2_snapshot_check (fd, &table, s, &e), 0);
    CHECK (qcow2_table_newest (&table) == &table.snapshots[1]);
    qcow2_table_free (&table);
  }
}

static void
test_empty (void)
{
  put_header (3, 0, 0);
  store (104);
  CHECK_EQ (qcow2_table_read (fd, &table, &e), 0);
  CHECK_EQ (table.nr, 0);
  CHECK (qcow2_table_newest (&table) == NULL);
  CHECK (qcow2_table_find (&table, "1") == NULL);
  qcow2_table_free (&table);
}

/* A name goes before an id, the first before others. */
static void
test_find (void)
{
  size_t at = CLUSTER;

  put_header (3, 4, CLUSTER);
  at = put_entry (at, "1", "2", 100, 16);
  at = put_entry (at, "2", "twice", 100, 16);
  at = put_entry (at, "3", "twice", 100, 16);
  put_entry (at, "3", "x", 100, 16);
  CHECK_EQ (read_table (), 0);
  CHECK (qcow2_table_find (&table, "2") == &table.snapshots[0]);
  CHECK (qcow2_table_find (&table, "1") == &table.snapshots[0]);
  CHECK (qcow2_table_find (&table, "twice") == &table.snapshots[1]);
  CHECK (qcow2_table_find (&table, "3") == &table.snapshots[2]);
  CHECK (qcow2_table_find (&table, "") == NULL);
  CHECK (qcow2_table_newest (&table) == &table.snapshots[3]);
  qcow2_table_free (&table);
}

/* A NUL ends a string, as in QEMU. */
static void
test_nul (void)
{
  put_sample (3);
  image[CLUSTER + 42] = '\0';   /* o, n of "one" */
  CHECK_EQ (read_table (), 0);
  CHECK (strcmp (table.snapshots[0].name, "o") == 0);
  qcow2_table_free (&table);
}

static void
bad (int num, const char *text)
{
  CHECK_EQ (read_table (), -1);
  CHECK_ERROR (&e, num, text);
}

static void
test_bad_header (void)
{
  size_t len;

  put_sample (3);
  put_32 (0, 0);
  bad (EINVAL, "is not a qcow2 image");
  put_sample (3);
  put_32 (4, 1);
  bad (EINVAL, "qcow version 1");
  put_sample (3);
  put_32 (20, 22);
  bad (EINVAL, "clusters of 2^22");
  put_sample (3);
  put_32 (20, 8);
  bad (EINVAL, "clusters of 2^8");
  put_sample (3);
  for (len = 0; len < 104; ++len) {
    store (len);
    CHECK_EQ (qcow2_table_read (fd, &table, &e), -1);
    CHECK_ERROR (&e, EINVAL, len < 4 ? "not a qcow2 image" : "cut off");
  }
}

static void
test_bad_table (void)
{
  size_t len, start = CLUSTER;

  put_sample (3);
  put_pointer (QCOW2_MAX_SNAPSHOTS + 1, CLUSTER);
  bad (EFBIG, "65537 snapshots");
  put_pointer (UINT32_MAX, CLUSTER);
  bad (EFBIG, "4294967295 snapshots");
  put_pointer (3, 0);
  bad (EINVAL, "cannot be at offset 0");
  put_pointer (3, CLUSTER + 8);
  bad (EINVAL, "cannot be at offset 65544");
  put_pointer (3, UINT64_MAX - CLUSTER + 1);
  bad (EINVAL, "cannot be at offset");
  put_pointer (3, INT64_MAX - CLUSTER + 1);
  bad (EINVAL, "cannot be at offset");
  put_pointer (3, 100 * CLUSTER);
  bad (EINVAL, "beyond the end of the file");
  put_pointer (QCOW2_MAX_SNAPSHOTS, CLUSTER);
  bad (EINVAL, "beyond the end of the file");

  put_sample (3);
  put_32 (CLUSTER + 36, QCOW2_MAX_EXTRA + 1);
  bad (EFBIG, "entry 0 of the snapshot table has 1025 bytes of extra data");
  put_32 (CLUSTER + 36, UINT32_MAX);
  bad (EFBIG, "extra data");

  /* Cut off anywhere. */
  put_sample (3);
  store (sizeof image);
  CHECK_EQ (qcow2_table_read (fd, &table, &e), 0);
  len = start + table.snapshots[2].end;
  qcow2_table_free (&table);
  store (len);
  CHECK_EQ (qcow2_table_read (fd, &table, &e), 0);
  qcow2_table_free (&table);
  while (len-- > start) {
    store (len);
    CHECK_EQ (qcow2_table_read (fd, &table, &e), -1);
    CHECK_ERROR (&e, EINVAL, "beyond the end of the file");
  }
}

/* The most that is allowed, and more: sparse, so it is quick. */
static void
test_largest (void)
{
  uint32_t i;

  put_header (3, QCOW2_MAX_SNAPSHOTS, CLUSTER);
  store (CLUSTER);
  CHECK (ftruncate (fd, 1 << 30) == 0);
  CHECK_EQ (qcow2_table_read (fd, &table, &e), 0);
  CHECK_EQ (table.nr, QCOW2_MAX_SNAPSHOTS);
  CHECK_EQ (qcow2_table_unchanged (fd, &table, table.nr - 1, &e), 1);
  qcow2_table_free (&table);

  /* All of them with the longest strings. */
  memset (image, 0xff, 16);
  for (i = 0; i < 1000; ++i)
    CHECK (pwrite (fd, image, 4, CLUSTER + 12 + i * (UINT64_C (40) + 65535 * 2 + 2))
           == 4);
  CHECK_EQ (qcow2_table_read (fd, &table, &e), -1);
  CHECK_ERROR (&e, EFBIG, "larger than 64 MiB");
}

static void
bad_snapshot (const char *text)
{
  CHECK_EQ (read_table (), 0);
  CHECK_EQ (qcow2_snapshot_check (fd, &table, &table.snapshots[2], &e), -1);
  CHECK_ERROR (&e, EINVAL, text);
  qcow2_table_free (&table);
}

static void
test_bad_snapshot (void)
{
  size_t at;

  put_sample (3);
  CHECK_EQ (read_table (), 0);
  at = CLUSTER + round_up (table.snapshots[1].end, 8);
  qcow2_table_free (&table);

  put_64 (at + 48, UINT64_MAX);
  bad_snapshot ("a disk of 18446744073709551615 bytes");
  put_64 (at + 48, DISK + 1);
  bad_snapshot ("too short for a disk of 1073741825 bytes");
  put_64 (at + 48, DISK);
  put_32 (at + 8, 0);
  bad_snapshot ("too short");
  put_32 (at + 8, UINT32_MAX);
  bad_snapshot ("cannot have 4294967295 entries");
  put_32 (at + 8, 2);
  put_64 (at, 5 * CLUSTER + 8);
  bad_snapshot ("entries at offset 327688");
  put_64 (at, UINT64_MAX - CLUSTER + 1);
  bad_snapshot ("entries at offset");
  put_64 (at, 6 * CLUSTER);
  bad_snapshot ("beyond the end of the file");
}

/* Deleted, and made anew with the same name and id, in the same place. */
static void
test_same (void)
{
  struct qcow2_table before;

  put_sample (3);
  CHECK_EQ (read_table (), 0);
  before = table;
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 2, &e), 1);

  /* Another one is appended: the table is elsewhere. */
  put_pointer (3, 2 * CLUSTER);
  memcpy (image + 2 * CLUSTER, image + CLUSTER, CLUSTER);
  store (sizeof image);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 0, &e), 0);
  memset (image + CLUSTER, 0xaa, CLUSTER);
  store (sizeof image);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 0, &e), 0);
  CHECK_EQ (read_table (), 0);
  CHECK (qcow2_table_same (&table, &before.snapshots[1]) ==
         &table.snapshots[1]);
  qcow2_table_free (&table);

  /* The first deleted and made again: everything is where it was but the
   * date.
   */
  put_sample (3);
  put_32 (CLUSTER + 20, 8);
  store (sizeof image);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 0, &e), 0);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 2, &e), 0);
  CHECK_EQ (read_table (), 0);
  CHECK (qcow2_table_same (&table, &before.snapshots[0]) == NULL);
  CHECK (qcow2_table_same (&table, &before.snapshots[2]) ==
         &table.snapshots[2]);
  qcow2_table_free (&table);

  /* What comes after an entry does not matter to it. */
  put_sample (3);
  image[CLUSTER + before.snapshots[2].end - 1] ^= 1;
  store (sizeof image);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 1, &e), 1);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 2, &e), 0);
  store (CLUSTER);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 1, &e), 0);
  store (0);
  CHECK_EQ (qcow2_table_unchanged (fd, &before, 1, &e), -1);
  qcow2_table_free (&before);
}

/* A writer that replaces the table without pause, as QEMU does.  Unlike
 * QEMU it is so fast that the same pointer could come round while a reader
 * is not running: it waits then.
 */
static atomic_bool stop;
static atomic_uint written, read_began;
#define LEAD 200

static void *
writer (void *arg)
{
  uint32_t generation = 1;      /* not where the sample is */

  (void) arg;
  while (!stop) {
    /* Tables of several reads, in places used in turn. */
    const uint32_t nr = 100 + generation % (LEAD + 50);
    const size_t start = CLUSTER * (1 + generation % 2);
    char name[100];
    size_t at = start;
    uint32_t i;

    memset (image + start, 0xff, CLUSTER);
    snprintf (name, sizeof name, "%0*" PRIu32, (int) (generation % 90 + 1),
              nr);
    for (i = 0; i < nr; ++i)
      at = put_entry (at, "id", name, generation, 16);
    put_pointer (nr, start);
    CHECK (pwrite (fd, image + start, CLUSTER, (off_t) start) == CLUSTER);
    CHECK (pwrite (fd, image + QCOW2_POINTER_OFFSET, QCOW2_POINTER_SIZE,
                   QCOW2_POINTER_OFFSET) == QCOW2_POINTER_SIZE);
    written = ++generation;
    while (!stop && generation - read_began > LEAD)
      sched_yield ();
  }
  return NULL;
}

/* A table that is read is one of those written, not parts of several. */
static void
test_replaced (void)
{
  pthread_t thread;
  unsigned n, busy = 0;
  uint32_t i;

  stop = false;
  put_sample (3);
  store (sizeof image);
  CHECK (pthread_create (&thread, NULL, writer, NULL) == 0);
  for (n = 0; n < 2000; ++n) {
    read_began = written;
    if (qcow2_table_read (fd, &table, &e) == -1) {
      CHECK_ERROR (&e, EAGAIN, "changes all the time");
      busy++;
      continue;
    }
    for (i = 1; i < table.nr; ++i) {
      if (table.snapshots[0].name[0] == 'o')
        break;                  /* the sample */
      CHECK (strcmp (table.snapshots[i].name, table.snapshots[0].name) == 0);
      CHECK_EQ (table.snapshots[i].date_sec, table.snapshots[0].date_sec);
      CHECK_EQ (atoi (table.snapshots[i].name), table.nr);
    }
    qcow2_table_free (&table);
  }
  stop = true;
  CHECK (pthread_join (thread, NULL) == 0);
  CHECK (busy < n);
}

/* Whatever the bytes are: a table that holds together, or an error. */
static void
look_at (void)
{
  size_t end = 0;
  uint32_t i;

  e = (struct error) { 0 };
  if (qcow2_table_read (fd, &table, &e) == -1) {
    CHECK (e.num == EINVAL || e.num == EFBIG);
    CHECK (e.msg[0] != '\0');
    return;
  }
  CHECK (table.nr <= QCOW2_MAX_SNAPSHOTS);
  for (i = 0; i < table.nr; ++i) {
    const struct qcow2_snapshot *s = &table.snapshots[i];

    CHECK (s->end >= round_up (end, 8) + 40 + strlen (s->id) +
           strlen (s->name));
    end = s->end;
    CHECK (qcow2_table_find (&table, s->name) != NULL);
    CHECK (qcow2_table_same (&table, s) != NULL);
    if (qcow2_snapshot_check (fd, &table, s, &e) == 0)
      CHECK (s->disk_size <= INT64_MAX);
    if (i > 100)
      break;
  }
  if (table.nr > 0)
    CHECK_EQ (qcow2_table_unchanged (fd, &table, table.nr - 1, &e), 1);
  CHECK ((table.nr == 0) == (qcow2_table_newest (&table) == NULL));
  qcow2_table_free (&table);
}

static void
test_mutants (void)
{
  static const uint64_t values[] = {
    0, 1, 7, 8, 39, 40, 511, 512, 1024, 1025, 65535, 65536, 65537,
    INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_C (1) << 63,
    UINT64_C (1) << 56,
  };
  uint64_t seed = 5;
  unsigned n, k;

  for (n = 0; n < 10000; ++n) {
    const unsigned changes = 1 + unit_random (&seed) % 4;
    const uint64_t cut = unit_random (&seed);

    put_sample (2 + (uint32_t) (n & 1));
    for (k = 0; k < changes; ++k) {
      const uint64_t r = unit_random (&seed);
      /* In the header or the table, mostly where the numbers are. */
      const size_t at = (r & 1 ? 0 : CLUSTER) + (r >> 8) % 240;
      const uint64_t v = values[(r >> 32) % (sizeof values / sizeof *values)];

      switch (r >> 1 & 7) {
      case 0: image[at] ^= (unsigned char) (1 << (r >> 40 & 7)); break;
      case 1: image[at] = (unsigned char) (r >> 40); break;
      case 2: put_16 (at & ~1u, (uint16_t) v); break;
      case 3: case 4: put_32 (at & ~3u, (uint32_t) v); break;
      case 5: put_64 (at & ~3u, v); break;
      case 6: put_pointer ((uint32_t) (r >> 40 & 7), (r >> 48 & 7) * CLUSTER);
        break;
      case 7: memset (image + at, (int) (r >> 40), r >> 48 & 63); break;
      }
    }
    store ((cut & 3) == 0 ? (cut >> 8) % (2 * CLUSTER) : sizeof image);
    look_at ();
  }
}

int
main (void)
{
  unit_start ();
  fd = memfd_create ("qcow2", MFD_CLOEXEC);
  CHECK (fd != -1);
  RUN (test_sound);
  RUN (test_empty);
  RUN (test_find);
  RUN (test_nul);
  RUN (test_bad_header);
  RUN (test_bad_table);
  RUN (test_largest);
  RUN (test_bad_snapshot);
  RUN (test_same);
  RUN (test_replaced);
  RUN (test_mutants);
  close (fd);
  return unit_end ();
}
