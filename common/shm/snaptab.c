/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "snaptab.h"

uint64_t
snaptab_sum (const struct cbw_snapshot *entry)
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
snaptab_read (const struct cbw_map *m, unsigned i, struct snapshot_info *info)
{
  struct cbw_snapshot copy;
  const uint32_t state = copy_entry (map_snapshot (m, i), &copy);

  if ((state != CBW_SNAPSHOT_LIVE && state != CBW_SNAPSHOT_BROKEN) ||
      copy.sum != snaptab_sum (&copy) ||
      memchr (copy.name, '\0', sizeof copy.name) == NULL)
    return false;

  *info = (struct snapshot_info) {
    .index = i,
    .state = state,
    .id = copy.id,
    .size = copy.size,
    .created_ns = copy.created_ns,
    .error_num = copy.error_num,
    .error_reason = copy.error_reason,
    .error_offset = copy.error_offset,
  };
  memcpy (info->name, copy.name, sizeof info->name);
  return true;
}

bool
snaptab_find (const struct cbw_map *m, const char *name,
              struct snapshot_info *info)
{
  struct snapshot_info found;
  bool any = false;
  unsigned i;

  for (i = 0; i < m->geometry.nr_snapshots; ++i) {
    if (!snaptab_read (m, i, &found))
      continue;
    if (name ? strcmp (found.name, name) == 0 : !any || found.id > info->id) {
      *info = found;
      any = true;
    }
  }
  return any;
}

int
snaptab_check_name (const char *name, struct error *e)
{
  const unsigned char *p;

  if (name[0] == '\0')
    return error_set (e, EINVAL, "a snapshot's name cannot be empty");
  if (strlen (name) >= CBW_NAME_MAX)
    return error_set (e, ENAMETOOLONG, "snapshot name \"%.32s...\" is longer "
                      "than %d bytes", name, CBW_NAME_MAX - 1);
  if (strstr (name, "..") != NULL)
    return error_set (e, EINVAL, "snapshot name \"%s\" contains \"..\"", name);
  for (p = (const unsigned char *) name; *p; ++p)
    if (*p == '/' || *p < 0x20 || *p == 0x7f)
      return error_set (e, EINVAL, "a snapshot's name cannot contain "
                        "the character %#04x", *p);
  return 0;
}

void
snaptab_describe (const struct snapshot_info *info, char *buf, size_t len)
{
  char text[128];

  if (info->state != CBW_SNAPSHOT_BROKEN) {
    snprintf (buf, len, "live");
    return;
  }
  switch (info->error_reason) {
  case CBW_BROKEN_REBOOT:
    snprintf (buf, len, "broken: the host went down without a clean "
              "shutdown of the server");
    break;
  case CBW_BROKEN_TARGET:
    snprintf (buf, len, "broken: its target is gone or was changed: %s",
              strerror_r (info->error_num, text, sizeof text));
    break;
  default:
    snprintf (buf, len, "broken: copy failed at offset %" PRIu64 ": %s",
              info->error_offset,
              strerror_r (info->error_num, text, sizeof text));
  }
}
