/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of internal snapshots in a qcow2 image, versions 2 and 3, while
 * another process may be writing to the image.  Data is not read here.
 *
 * How QEMU changes the table: it writes a new one where nothing is yet,
 * then points the header to it (one write of the count and the offset), and
 * only then frees the old one, and the clusters of a deleted snapshot.
 *
 * Nothing in the image is trusted: whatever its bytes, these functions
 * return, and touch no memory but their own.  They keep to QEMU's limits,
 * which bound the memory used to 64 MiB and a few.
 */

#ifndef CBW_QCOW2_TABLE_H
#define CBW_QCOW2_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utils/error.h"

/* QEMU's limits. */
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_TABLE (UINT32_C (1024) * QCOW2_MAX_SNAPSHOTS)
#define QCOW2_MAX_EXTRA 1024u
#define QCOW2_MAX_L1 (UINT32_C (32) << 20)

/* Where in the header the table's pointer is: count (32 bits), offset (64
 * bits), big-endian as everything.
 */
#define QCOW2_POINTER_OFFSET 60
#define QCOW2_POINTER_SIZE 12

struct qcow2_snapshot {
  const char *id;               /* strings in the table's memory; they may */
  const char *name;             /* be empty, ambiguous, and not UTF-8 */
  uint32_t date_sec;            /* since the epoch, UTC */
  uint32_t date_nsec;
  uint64_t vm_clock_ns;
  uint64_t vm_state_size;       /* bytes, 0 if there is none */
  uint64_t disk_size;           /* of the disk at that time, bytes */
  uint64_t l1_offset;           /* in the image, bytes */
  uint32_t l1_size;             /* entries */
  size_t end;                   /* where the entry ends, from the start of
                                 * the table */
};

struct qcow2_table {
  uint32_t version;
  uint32_t cluster_size;        /* bytes */
  uint64_t size;                /* of the disk now, bytes */
  bool encrypted;
  bool extended_l2;

  struct qcow2_snapshot *snapshots;     /* in the table's order, oldest */
  uint32_t nr;                          /* first, as QEMU appends */

  /* What it was made of. */
  uint64_t offset;              /* of the table in the image, bytes */
  unsigned char pointer[QCOW2_POINTER_SIZE];
  unsigned char *bytes;
  size_t len;
  char *strings;
};

/* Read the table of the image open at fd (for reading; its file offset is
 * not used).  It is one that QEMU wrote, whole, even if QEMU wrote others
 * meanwhile.  0, and qcow2_table_free must be called; or -1 and an error
 * whose message does not name the image: EINVAL it is no sound qcow2 image,
 * EFBIG beyond the limits, EAGAIN the table changes all the time, or what
 * reading gave.
 */
extern int qcow2_table_read (int fd, struct qcow2_table *t, struct error *e);
extern void qcow2_table_free (struct qcow2_table *t);

/* Is snapshot i, which the table had when it was read, still in the image,
 * where it was?  Reads the header and the table up to that entry: cheap.
 * 1 yes; 0 no, or the table was written anew, so read it again; -1 and the
 * error if the image cannot be read.
 */
extern int qcow2_table_unchanged (int fd, const struct qcow2_table *t,
                                  uint32_t i, struct error *e);

/* The snapshot of that name; if none has it, the one with that id.  Where
 * several have it, the first in the table, like QEMU.  NULL if there is none.
 */
extern const struct qcow2_snapshot *
qcow2_table_find (const struct qcow2_table *t, const char *name_or_id);

/* The newest by date, the last of those; NULL if there is none. */
extern const struct qcow2_snapshot *
qcow2_table_newest (const struct qcow2_table *t);

/* The entry of t that is the very snapshot s (of another reading of the
 * same image), not another one of the same name and id.  NULL: deleted.
 */
extern const struct qcow2_snapshot *
qcow2_table_same (const struct qcow2_table *t, const struct qcow2_snapshot *s);

/* Is the entry sound, and can QEMU serve all of its disk?  A snapshot whose
 * level 1 table is cut off would read as zeroes there.  0, or -1 and EINVAL.
 */
extern int qcow2_snapshot_check (int fd, const struct qcow2_table *t,
                                 const struct qcow2_snapshot *s,
                                 struct error *e);

#endif /* CBW_QCOW2_TABLE_H */
