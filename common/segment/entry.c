/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading the snapshot table.  Clients call this, and so does a server that
 * takes a segment over.  The entry is copied once, the copy is checked, and
 * only the copy is used.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "segment/entry.h"
#include "utils/utf8.h"

uint64_t
entry_sum (const struct cbw_snapshot *entry)
{
  return layout_sum (entry, offsetof (struct cbw_snapshot, sum));
}

/* A copy of the entry, all of it in one state.  That changes a few times
 * in the entry's life, so trying again soon succeeds.
 */
static uint32_t
copy_entry (struct cbw_snapshot *entry, struct cbw_snapshot *copy)
{
  uint32_t state, before;

  state = atomic_load_explicit (&entry->state, memory_order_acquire);
  do {
    before = state;
    memcpy (copy, entry, sizeof *copy);
    atomic_thread_fence (memory_order_acquire);
    state = atomic_load_explicit (&entry->state, memory_order_acquire);
  } while (state != before);
  return state;
}

bool
entry_copy (const struct cbw_map *m, unsigned i, struct cbw_snapshot *copy)
{
  const uint32_t state = copy_entry (map_snapshot (m, i), copy);

  atomic_init (&copy->state, state);
  return state > CBW_SNAPSHOT_EMPTY && state <= CBW_SNAPSHOT_HIDDEN &&
    copy->sum == entry_sum (copy) &&
    memchr (copy->name, '\0', sizeof copy->name) != NULL &&
    memchr (copy->target, '\0', sizeof copy->target) != NULL;
}

bool
entry_is_complete (const struct cbw_snapshot *copy)
{
  return copy->options.backup &&
    atomic_load (&((struct cbw_snapshot *) copy)->job.state) ==
    CBW_JOB_COMPLETE;
}

void
entry_info (const struct cbw_snapshot *copy, unsigned i,
            struct snapshot_info *info)
{
  *info = (struct snapshot_info) {
    .index = i,
    .state = atomic_load_explicit (&((struct cbw_snapshot *) copy)->state,
                                   memory_order_relaxed),
    .id = copy->id,
    .size = copy->size,
    .created_ns = copy->created_ns,
    .error_num = copy->failed ? copy->error_num : 0,
    .error_reason = copy->error_reason,
    .error_offset = copy->error_offset,
    .complete = entry_is_complete (copy),
  };
  memcpy (info->name, copy->name, sizeof info->name);
}

bool
entry_read (const struct cbw_map *m, unsigned i, struct snapshot_info *info)
{
  struct snapshot_info found;
  struct cbw_snapshot copy;

  if (!entry_copy (m, i, &copy))
    return false;
  entry_info (&copy, i, &found);
  if (found.state != CBW_SNAPSHOT_LIVE && found.state != CBW_SNAPSHOT_BROKEN)
    return false;
  *info = found;
  return true;
}

bool
entry_find (const struct cbw_map *m, const char *name,
            struct snapshot_info *info)
{
  struct snapshot_info found;
  bool any = false;
  unsigned i;

  for (i = 0; i < m->geometry.nr_snapshots; ++i) {
    if (!entry_read (m, i, &found))
      continue;
    if ((name ? strcmp (found.name, name) == 0 : !found.complete) &&
        (!any || found.id > info->id)) {
      *info = found;
      any = true;
    }
  }
  return any;
}

void
entry_hidden_target (const struct cbw_snapshot *entry,
                     char path[ENTRY_TARGET_MAX])
{
  snprintf (path, ENTRY_TARGET_MAX, "%s.dropped-%" PRIu64, entry->target,
            entry->id);
}

void
entry_partial_target (const struct cbw_snapshot *entry,
                      char path[ENTRY_TARGET_MAX])
{
  const uint8_t *u = entry->uuid; /* the id is not known before it is live */

  snprintf (path, ENTRY_TARGET_MAX, "%s.partial-%02x%02x%02x%02x",
            entry->target, u[0], u[1], u[2], u[3]);
}

static bool
is_target (const struct cbw_snapshot *entry, const char *path)
{
  struct stat st;

  return lstat (path, &st) == 0 && st.st_dev == entry->target_device &&
    st.st_ino == entry->target_inode;
}

/* Has the file another name until the backup is complete?  A reservation
 * does not say so yet.
 */
static bool
is_partial (const struct cbw_snapshot *entry, enum cbw_snapshot_state state)
{
  return entry->target_flags & CBW_TARGET_PARTIAL ||
    (state == CBW_SNAPSHOT_RESERVED && entry->options.backup);
}

/* A server may have ended between a change of the entry and the rename that
 * goes with it, and files of those names may be left from another segment.
 */
void
entry_target (const struct cbw_snapshot *entry,
              enum cbw_snapshot_state state, char path[ENTRY_TARGET_MAX])
{
  if (entry->target_kind == CBW_TARGET_RAW) {
    entry_hidden_target (entry, path);
    if (state == CBW_SNAPSHOT_HIDDEN && is_target (entry, path))
      return;
    entry_partial_target (entry, path);
    if (is_partial (entry, state) && !is_target (entry, entry->target) &&
        !entry_is_complete (entry))
      return;
  }
  snprintf (path, ENTRY_TARGET_MAX, "%s", entry->target);
}

int
entry_check_name (const char *name, struct error *e)
{
  const char *p;
  uint32_t c;
  size_t len;

  if (name[0] == '\0')
    return error_set (e, EINVAL, "a snapshot's name cannot be empty");
  if (strlen (name) >= CBW_NAME_MAX)
    return error_set (e, ENAMETOOLONG, "snapshot name \"%.32s...\" is longer "
                      "than %d bytes", name, CBW_NAME_MAX - 1);
  if (strstr (name, "..") != NULL)
    return error_set (e, EINVAL, "snapshot name \"%s\" contains \"..\"", name);
  for (p = name; *p; p += len) {
    len = utf8_char (p, &c);
    if (len == 0)
      return error_set (e, EINVAL, "a snapshot's name must be UTF-8, since it "
                        "is the name of an NBD export");
    if (c == '/' || c < 0x20 || (c >= 0x7f && c < 0xa0))
      return error_set (e, EINVAL, "a snapshot's name cannot contain "
                        "the character %#04" PRIx32, c);
  }
  return 0;
}

/* strerror would speak of a connection. */
static const char *
error_text (int num, char *text, size_t len)
{
  return num == ETIMEDOUT ? "it took longer than the snapshot's timeout" :
    strerror_r (num, text, len);
}

void
entry_describe (const struct snapshot_info *info, char *buf, size_t len)
{
  char text[128];

  switch (info->state) {
  case CBW_SNAPSHOT_RESERVED:
    snprintf (buf, len, "being made");
    return;
  case CBW_SNAPSHOT_HIDDEN:
    snprintf (buf, len, "hidden: dropped, but older snapshots need its data");
    return;
  case CBW_SNAPSHOT_BROKEN:
    break;
  default:
    if (info->complete)
      snprintf (buf, len, "a complete backup");
    else if (info->error_num == 0)
      snprintf (buf, len, "live");
    else
      snprintf (buf, len, "live, but a guest's write failed: "
                "copy at offset %" PRIu64 ": %s", info->error_offset,
                error_text (info->error_num, text, sizeof text));
    return;
  }
  switch (info->error_reason) {
  case CBW_BROKEN_REBOOT:
    snprintf (buf, len, "broken: the host went down without a clean "
              "shutdown of the server");
    break;
  case CBW_BROKEN_TARGET:
    snprintf (buf, len, "broken: its target is gone or was changed: %s",
              error_text (info->error_num, text, sizeof text));
    break;
  case CBW_BROKEN_SOURCE:
    snprintf (buf, len, "broken: the plugin gives each connection a disk of "
              "its own, so it is not of the disk that a guest has");
    break;
  default:
    snprintf (buf, len, "broken: copy failed at offset %" PRIu64 ": %s",
              info->error_offset,
              error_text (info->error_num, text, sizeof text));
  }
}
