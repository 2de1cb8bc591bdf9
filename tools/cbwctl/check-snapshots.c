/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl check: the snapshot table, entry by entry. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "image/nbd/nbd.h"
#include "segment/entry.h"

static const char *
name_of (const struct check_entry *entry)
{
  return entry->copy.name;
}

/* The fixed part of an entry; false if it cannot be used any further. */
static bool
check_fixed (struct check *c, unsigned i, const struct cbw_snapshot *copy)
{
  struct error e;

  if (copy->id == 0 ||
      copy->id >= map_header (&c->segment.map)->next_snapshot_id)
    check_add (&c->problems, "entry %u: its id is %" PRIu64 ", and the next "
               "one to be given is %" PRIu64, i, copy->id,
               map_header (&c->segment.map)->next_snapshot_id);
  if (entry_check_name (copy->name, &e) == -1)
    check_add (&c->problems, "entry %u: %s", i, e.msg);
  if (copy->target_kind != CBW_TARGET_RAW &&
      copy->target_kind != CBW_TARGET_NBD)
    check_add (&c->problems, "entry %u: its target is of the unknown kind %"
               PRIu32, i, copy->target_kind);
  if (copy->options.on_error > CBW_ON_ERROR_BREAK_GUEST_WRITE)
    check_add (&c->problems, "entry %u: its policy is the unknown %" PRIu32,
               i, copy->options.on_error);
  if (copy->job.kind > CBW_JOB_BACKUP)
    check_add (&c->notes, "entry %u: its job is of kind %" PRIu32 ", which "
               "this program does not know", i, copy->job.kind);
  else if (copy->options.backup > 1 ||
           copy->options.on_source_error > CBW_FILL_ENOSPC ||
           copy->options.on_target_error > CBW_FILL_ENOSPC ||
           copy->job.state > CBW_JOB_FAILED ||
           (copy->job.state != CBW_JOB_NO_JOB) != copy->options.backup ||
           copy->job.kind != copy->options.backup)
    check_add (&c->problems, "entry %u: what it says of a backup has no "
               "meaning (%u, policies %u and %u, state %" PRIu32 ")", i,
               copy->options.backup, copy->options.on_source_error,
               copy->options.on_target_error, copy->job.state);
  if (copy->target_kind == CBW_TARGET_NBD) {
    if (!image_nbd_is_name (copy->target))
      check_add (&c->problems, "entry %u: its target is not the name of an "
                 "NBD server: \"%s\"", i, copy->target);
  }
  else if (copy->target[0] != '/')
    check_add (&c->problems, "entry %u: the path of its target is not "
               "absolute: \"%s\"", i, copy->target);
  if (!layout_has_room (&c->segment.map.geometry, copy->size)) {
    check_add (&c->problems, "entry %u: bitmaps have no room for a disk of %"
               PRIu64 " bytes", i, copy->size);
    return false;
  }
  if (!segment_find_bitmaps (&c->segment, i,
                             layout_bitmaps (&copy->options))) {
    check_add (&c->problems, "entry %u: its bitmaps are missing", i);
    return false;
  }
  return true;
}

static void
check_error (struct check *c, const struct check_entry *entry)
{
  const struct cbw_snapshot *copy = &entry->copy;
  const bool broken = check_state (entry) == CBW_SNAPSHOT_BROKEN;

  if (copy->failed > 1 || (broken && !copy->failed))
    check_add (&c->problems, "snapshot \"%s\": it is %s, but whether "
               "something failed is %" PRIu32, name_of (entry),
               broken ? "broken" : "not broken", copy->failed);
  if (copy->failed == 1 &&
      (copy->error_num <= 0 || copy->error_reason < CBW_BROKEN_COPY ||
       copy->error_reason > CBW_BROKEN_SOURCE ||
       copy->error_offset > copy->size))
    check_add (&c->problems, "snapshot \"%s\": %s, but the reason "
               "has no meaning (reason %" PRIu32 ", errno %" PRId32
               ", offset %" PRIu64 ")", name_of (entry),
               broken ? "it is broken" : "a copy has failed",
               copy->error_reason,
               copy->error_num, copy->error_offset);
}

/* Read one entry; adds it to c->entries if it may be looked at further. */
static void
read_entry (struct check *c, unsigned i)
{
  struct check_entry *entry = &c->entries[c->nr_entries];
  uint32_t state;

  if (!entry_copy (&c->segment.map, i, &entry->copy)) {
    state = atomic_load (&entry->copy.state);
    if (state > CBW_SNAPSHOT_HIDDEN)
      check_add (&c->problems, "entry %u: it is in state %" PRIu32
                 ", which has no meaning", i, state);
    else if (state > CBW_SNAPSHOT_RESERVED)
      check_add (&c->problems, "entry %u: its checksum is wrong", i);
    return;
  }
  entry->index = i;
  if (check_state (entry) == CBW_SNAPSHOT_RESERVED) {
    if (!c->alive)
      check_add (&c->notes, "snapshot \"%s\" was being made when the server "
                 "ended; the next one undoes that", name_of (entry));
    return;
  }
  if (!check_fixed (c, i, &entry->copy))
    return;
  check_error (c, entry);
  c->nr_entries++;
}

static int
by_age (const void *a, const void *b)
{
  const struct check_entry *x = a, *y = b;

  return x->copy.id < y->copy.id ? -1 : x->copy.id > y->copy.id;
}

static void
check_unique (struct check *c)
{
  const struct check_entry *x, *y;

  for (x = c->entries; x < c->entries + c->nr_entries; ++x)
    for (y = x + 1; y < c->entries + c->nr_entries; ++y) {
      if (x->copy.id == y->copy.id)
        check_add (&c->problems, "entries %u and %u have the same id",
                   x->index, y->index);
      if (check_state (x) != CBW_SNAPSHOT_HIDDEN &&
          check_state (y) != CBW_SNAPSHOT_HIDDEN &&
          strcmp (name_of (x), name_of (y)) == 0)
        check_add (&c->problems, "entries %u and %u have the same name, "
                   "\"%s\"", x->index, y->index, name_of (x));
      if (x->copy.target_kind == CBW_TARGET_NBD ?
          strcmp (x->copy.target, y->copy.target) == 0 :
          x->copy.target_inode == y->copy.target_inode &&
          x->copy.target_device == y->copy.target_device)
        check_add (&c->problems, "entries %u and %u have the same target, %s",
                   x->index, y->index, x->copy.target);
    }
}

/* Does anybody read this target?  Of hidden ones only older snapshots do;
 * that a target is lost is known already if it says so.
 */
static bool
is_target_needed (const struct check *c, size_t j)
{
  const struct cbw_snapshot *copy = &c->entries[j].copy;
  size_t k;

  if (copy->error_reason == CBW_BROKEN_TARGET ||
      entry_is_complete (copy)) /* that is the user's */
    return false;
  if (copy->options.backup)     /* nobody else looks through it */
    return check_state (&c->entries[j]) == CBW_SNAPSHOT_LIVE;
  for (k = j + 1; k-- > 0;)
    if (check_state (&c->entries[k]) == CBW_SNAPSHOT_LIVE)
      return true;
  return false;
}

static void
check_target (struct check *c, const struct check_entry *entry)
{
  const struct cbw_snapshot *copy = &entry->copy;
  char path[ENTRY_TARGET_MAX];
  struct stat st;

  if (copy->target_kind == CBW_TARGET_NBD)
    return;                     /* its server may be ours to start */
  entry_target (copy, atomic_load (&entry->copy.state), path);
  if (stat (path, &st) == -1)
    check_add (&c->problems, "snapshot \"%s\": its target %s cannot be "
               "found: %s", name_of (entry), path, strerror (errno));
  else if (!S_ISREG (st.st_mode) || st.st_dev != copy->target_device ||
           st.st_ino != copy->target_inode)
    check_add (&c->problems, "snapshot \"%s\": its target %s is not the file "
               "it was made with", name_of (entry), path);
  else if ((uint64_t) st.st_size != copy->size)
    check_add (&c->problems, "snapshot \"%s\": its target %s has %" PRIu64
               " bytes, not %" PRIu64, name_of (entry), path,
               (uint64_t) st.st_size, copy->size);
}

void
check_snapshots (struct check *c)
{
  unsigned i;
  size_t j;

  c->nr_entries = 0;
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    read_entry (c, i);
  qsort (c->entries, c->nr_entries, sizeof c->entries[0], by_age);
  check_unique (c);
  for (j = 0; j < c->nr_entries; ++j)
    if (is_target_needed (c, j))
      check_target (c, &c->entries[j]);
}
