/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a qcow2 image's snapshot table.  The plugin's qcow2 side calls this.
 *
 * The table may change between two reads.  So each attempt reads the header
 * again after the table, and the table counts only if the pointer to it has
 * not changed.
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/qcow2/qcow2-table.h"
#include "utils/rounding.h"

#define MAGIC UINT32_C (0x514649fb)     /* "QFI\xfb" */
#define HEADER_V2 72u
#define HEADER_V3 104u
#define ENTRY 40u               /* the part of an entry before its strings */
#define CHUNK UINT32_C (4096)   /* the least that is read of a table */
#define TRIES 20

static uint16_t
get_16 (const unsigned char *p)
{
  uint16_t v;

  memcpy (&v, p, sizeof v);
  return be16toh (v);
}

static uint32_t
get_32 (const unsigned char *p)
{
  uint32_t v;

  memcpy (&v, p, sizeof v);
  return be32toh (v);
}

static uint64_t
get_64 (const unsigned char *p)
{
  uint64_t v;

  memcpy (&v, p, sizeof v);
  return be64toh (v);
}

/* Up to count bytes, less only at the end of the file.  -1 and errno. */
static ssize_t
read_at (int fd, void *buf, size_t count, uint64_t offset)
{
  size_t done = 0;
  ssize_t r;

  while (done < count) {
    r = pread (fd, (char *) buf + done, count - done,
               (off_t) (offset + done));
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return -1;
    if (r == 0)
      break;
    done += (size_t) r;
  }
  return (ssize_t) done;
}

static int
read_pointer (int fd, unsigned char pointer[QCOW2_POINTER_SIZE],
              struct error *e)
{
  const ssize_t r = read_at (fd, pointer, QCOW2_POINTER_SIZE,
                             QCOW2_POINTER_OFFSET);

  if (r == -1)
    return error_set_errno (e, errno, "cannot read the header");
  if (r < QCOW2_POINTER_SIZE)
    return error_set (e, EINVAL, "is not a qcow2 image: it is too short");
  return 0;
}

static int
read_header (int fd, struct qcow2_table *t, struct error *e)
{
  unsigned char h[HEADER_V3] = { 0 };
  const ssize_t r = read_at (fd, h, sizeof h, 0);
  uint32_t cluster_bits;

  if (r == -1)
    return error_set_errno (e, errno, "cannot read the header");
  memcpy (t->pointer, h + QCOW2_POINTER_OFFSET, QCOW2_POINTER_SIZE);
  if (r < 4 || get_32 (h) != MAGIC)
    return error_set (e, EINVAL, "is not a qcow2 image");
  if (r < (ssize_t) HEADER_V2)
    return error_set (e, EINVAL, "is cut off in the header");
  t->version = get_32 (h + 4);
  if (t->version != 2 && t->version != 3)
    return error_set (e, EINVAL, "has qcow version %" PRIu32 ": only 2 and 3 "
                      "are known", t->version);
  if (t->version == 3 && r < (ssize_t) HEADER_V3)
    return error_set (e, EINVAL, "is cut off in the header");
  cluster_bits = get_32 (h + 20);
  if (cluster_bits < 9 || cluster_bits > 21)
    return error_set (e, EINVAL, "is damaged: clusters of 2^%" PRIu32
                      " bytes", cluster_bits);
  t->cluster_size = UINT32_C (1) << cluster_bits;
  t->size = get_64 (h + 24);
  t->encrypted = get_32 (h + 32) != 0;
  t->extended_l2 = t->version == 3 && (get_64 (h + 72) & 16);
  t->nr = get_32 (t->pointer);
  t->offset = get_64 (t->pointer + 4);
  if (t->nr > QCOW2_MAX_SNAPSHOTS)
    return error_set (e, EFBIG, "is damaged: its header speaks of %" PRIu32
                      " snapshots, more than there can be", t->nr);
  if (t->nr > 0 && (t->offset == 0 || t->offset % t->cluster_size != 0 ||
                    t->offset > INT64_MAX - QCOW2_MAX_TABLE))
    return error_set (e, EINVAL, "is damaged: the snapshot table cannot be "
                      "at offset %" PRIu64, t->offset);
  return 0;
}

/* Have at least the first "upto" bytes of the table in memory. */
static int
load_table (int fd, struct qcow2_table *t, size_t upto, struct error *e)
{
  unsigned char *bytes;
  size_t want;
  ssize_t r;

  if (upto <= t->len)
    return 0;
  if (upto > QCOW2_MAX_TABLE)
    return error_set (e, EFBIG, "is damaged: the snapshot table is larger "
                      "than %u MiB", QCOW2_MAX_TABLE >> 20);
  /* Doubling, so that it is not copied for each chunk. */
  want = min_u64 (round_up (max_u64 (upto, 2 * t->len), CHUNK),
                  QCOW2_MAX_TABLE);
  bytes = realloc (t->bytes, want);
  if (bytes == NULL)
    return error_set_errno (e, ENOMEM, "cannot read the snapshot table");
  t->bytes = bytes;
  r = read_at (fd, bytes + t->len, want - t->len, t->offset + t->len);
  if (r == -1)
    return error_set_errno (e, errno, "cannot read the snapshot table at "
                            "offset %" PRIu64, t->offset);
  t->len += (size_t) r;
  if (t->len < upto)
    return error_set (e, EINVAL, "is damaged: the snapshot table at offset %"
                      PRIu64 " goes beyond the end of the file", t->offset);
  return 0;
}

/* The numbers of the entry that starts at byte "start" of the table. */
static int
read_entry (int fd, struct qcow2_table *t, uint32_t i, size_t start,
            struct error *e)
{
  struct qcow2_snapshot *s = &t->snapshots[i];
  const unsigned char *p;
  uint32_t extra;

  if (load_table (fd, t, start + ENTRY, e) == -1)
    return -1;
  p = t->bytes + start;
  extra = get_32 (p + 36);
  if (extra > QCOW2_MAX_EXTRA)
    return error_set (e, EFBIG, "is damaged: entry %" PRIu32 " of the "
                      "snapshot table has %" PRIu32 " bytes of extra data",
                      i, extra);
  s->end = start + ENTRY + extra + get_16 (p + 12) + get_16 (p + 14);
  if (load_table (fd, t, s->end, e) == -1)
    return -1;

  p = t->bytes + start;         /* it may have moved */
  s->l1_offset = get_64 (p);
  s->l1_size = get_32 (p + 8);
  s->date_sec = get_32 (p + 16);
  s->date_nsec = get_32 (p + 20);
  s->vm_clock_ns = get_64 (p + 24);
  s->vm_state_size = extra >= 8 ? get_64 (p + ENTRY) : get_32 (p + 32);
  s->disk_size = extra >= 16 ? get_64 (p + ENTRY + 8) : t->size;
  return 0;
}

/* Give the entries their strings, now that the bytes stay where they are.
 * A NUL within a string ends it, as in QEMU.
 */
static int
copy_strings (struct qcow2_table *t, struct error *e)
{
  size_t start = 0;
  char *to;
  uint32_t i;

  /* Enough: an entry has more bytes besides its strings than two NULs. */
  t->strings = to = malloc (t->len + 1);
  if (to == NULL)
    return error_set_errno (e, ENOMEM, "cannot read the snapshot table");
  for (i = 0; i < t->nr; ++i) {
    struct qcow2_snapshot *s = &t->snapshots[i];
    const size_t id_len = get_16 (t->bytes + start + 12);
    const size_t name_len = get_16 (t->bytes + start + 14);

    s->id = to;
    memcpy (to, t->bytes + s->end - name_len - id_len, id_len);
    to[id_len] = '\0';
    to += id_len + 1;
    s->name = to;
    memcpy (to, t->bytes + s->end - name_len, name_len);
    to[name_len] = '\0';
    to += name_len + 1;
    start = round_up (s->end, 8);
  }
  return 0;
}

/* Read the table, or parts of several if it is being replaced. */
static int
read_once (int fd, struct qcow2_table *t, struct error *e)
{
  size_t start = 0;
  uint32_t i;

  memset (t, 0, sizeof *t);
  if (read_header (fd, t, e) == -1)
    return -1;
  t->snapshots = calloc (max_u64 (t->nr, 1), sizeof *t->snapshots);
  if (t->snapshots == NULL)
    return error_set_errno (e, ENOMEM, "cannot read the snapshot table");
  for (i = 0; i < t->nr; ++i) {
    if (read_entry (fd, t, i, start, e) == -1)
      return -1;
    start = round_up (t->snapshots[i].end, 8);
  }
  if (t->nr > 0)
    t->len = t->snapshots[t->nr - 1].end;
  return copy_strings (t, e);
}

int
qcow2_table_read (int fd, struct qcow2_table *t, struct error *e)
{
  unsigned char now[QCOW2_POINTER_SIZE];
  struct error ignored;
  unsigned i;
  int r;

  for (i = 0; i < TRIES; ++i) {
    r = read_once (fd, t, e);
    if (read_pointer (fd, now, r == -1 ? &ignored : e) == -1)
      r = -1;
    /* The table does not change while the header points to it.  If the
     * header has changed, what was read, or the error, means nothing.
     */
    else if (memcmp (now, t->pointer, sizeof now) != 0) {
      qcow2_table_free (t);
      continue;
    }
    if (r == -1)
      qcow2_table_free (t);
    return r;
  }
  return error_set (e, EAGAIN, "its snapshot table changes all the time");
}

void
qcow2_table_free (struct qcow2_table *t)
{
  free (t->snapshots);
  free (t->bytes);
  free (t->strings);
  memset (t, 0, sizeof *t);
}

int
qcow2_table_unchanged (int fd, const struct qcow2_table *t, uint32_t i,
                       struct error *e)
{
  const size_t end = t->snapshots[i].end;
  unsigned char bytes[4096];
  size_t at, n;
  ssize_t r;

  /* The pointer first.  If it is what it was, then so is the table, or the
   * header was set to another table in the same place by now, which has
   * no such entry and is not written again while it is in use.
   */
  if (read_pointer (fd, bytes, e) == -1)
    return -1;
  if (memcmp (bytes, t->pointer, QCOW2_POINTER_SIZE) != 0)          /* Q2 */
    return 0;
  for (at = 0; at < end; at += n) {
    n = min_u64 (end - at, sizeof bytes);
    r = read_at (fd, bytes, n, t->offset + at);
    if (r == -1)
      return error_set_errno (e, errno, "cannot read the snapshot table at "
                              "offset %" PRIu64, t->offset);
    if ((size_t) r < n || memcmp (bytes, t->bytes + at, n) != 0)    /* Q3 */
      return 0;
  }
  return 1;
}

const struct qcow2_snapshot *
qcow2_table_find (const struct qcow2_table *t, const char *name_or_id)
{
  uint32_t i;

  for (i = 0; i < t->nr; ++i)
    if (strcmp (t->snapshots[i].name, name_or_id) == 0)
      return &t->snapshots[i];
  for (i = 0; i < t->nr; ++i)
    if (strcmp (t->snapshots[i].id, name_or_id) == 0)
      return &t->snapshots[i];
  return NULL;
}

const struct qcow2_snapshot *
qcow2_table_newest (const struct qcow2_table *t)
{
  const struct qcow2_snapshot *newest = NULL;
  uint32_t i;

  for (i = 0; i < t->nr; ++i) {
    const struct qcow2_snapshot *s = &t->snapshots[i];

    if (newest == NULL || s->date_sec > newest->date_sec ||
        (s->date_sec == newest->date_sec &&
         s->date_nsec >= newest->date_nsec))
      newest = s;
  }
  return newest;
}

const struct qcow2_snapshot *
qcow2_table_same (const struct qcow2_table *t, const struct qcow2_snapshot *s)
{
  uint32_t i;

  /* All that QEMU keeps when it writes an entry anew.  (Not the sizes: it
   * adds them where an old QEMU had left them out.)
   */
  for (i = 0; i < t->nr; ++i) {
    const struct qcow2_snapshot *o = &t->snapshots[i];

    if (o->l1_offset == s->l1_offset && o->l1_size == s->l1_size &&
        o->date_sec == s->date_sec && o->date_nsec == s->date_nsec &&
        o->vm_clock_ns == s->vm_clock_ns &&
        strcmp (o->id, s->id) == 0 && strcmp (o->name, s->name) == 0)
      return o;
  }
  return NULL;
}

int
qcow2_snapshot_check (int fd, const struct qcow2_table *t,
                      const struct qcow2_snapshot *s, struct error *e)
{
  /* Bytes of disk for each entry of the level 1 table. */
  const uint64_t covered = (uint64_t) t->cluster_size *
    (t->cluster_size / (t->extended_l2 ? 16 : 8));
  const uint64_t l1_bytes = (uint64_t) s->l1_size * 8;
  char c;

  if (s->disk_size > INT64_MAX)
    return error_set (e, EINVAL, "is damaged: a disk of %" PRIu64 " bytes",
                      s->disk_size);
  if (l1_bytes > QCOW2_MAX_L1 || s->l1_offset % t->cluster_size != 0 ||
      s->l1_offset > INT64_MAX - QCOW2_MAX_L1)
    return error_set (e, EINVAL, "is damaged: its level 1 table cannot have %"
                      PRIu32 " entries at offset %" PRIu64, s->l1_size,
                      s->l1_offset);
  if (s->disk_size > 0 && (s->disk_size - 1) / covered >= s->l1_size)
    return error_set (e, EINVAL, "is damaged: its level 1 table is too short "
                      "for a disk of %" PRIu64 " bytes", s->disk_size);
  if (l1_bytes > 0 && read_at (fd, &c, 1, s->l1_offset + l1_bytes - 1) != 1)
    return error_set (e, EINVAL, "is damaged: its level 1 table at offset %"
                      PRIu64 " goes beyond the end of the file",
                      s->l1_offset);
  return 0;
}
