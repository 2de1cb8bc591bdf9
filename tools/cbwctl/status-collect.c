/* SPDX-License-Identifier: BSD-3-Clause */

/* cbwctl status: gathers the values from a segment.  Prints nothing. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "segment/liveness.h"
#include "segment/segment.h"
#include "status.h"
#include "utils/clock.h"
#include "utils/rounding.h"

static void
collect_header (const struct segment *segment, struct status *s)
{
  struct cbw_header *h = map_header (&segment->map);

  s->geometry = segment->map.geometry;
  memcpy (s->uuid, h->uuid, sizeof s->uuid);
  s->alive = liveness_server (segment->fd);
  s->clean = atomic_load_explicit (&h->state, memory_order_acquire) ==
    CBW_SERVER_STOPPED;
  s->pid = h->server_pid;
  s->start_ns = h->server_start_ns;
  s->generation = h->generation;
  s->requests = atomic_load_explicit (&h->requests, memory_order_relaxed);
  s->read_bytes = atomic_load_explicit (&h->read_bytes, memory_order_relaxed);
  s->reaped = atomic_load_explicit (&h->reaped, memory_order_relaxed);
  s->cells_used = atomic_load_explicit (&h->cells_used, memory_order_relaxed);
}

/* What clients have read by themselves is done as well. */
static void
collect_direct (const struct cbw_map *m, struct status *s)
{
  struct cbw_direct_counters *direct;
  unsigned i;

  for (i = 0; i < CBW_NR_CLIENTS; ++i) {
    direct = map_direct_counters (m, i);
    s->requests += atomic_load_explicit (&direct->requests,
                                         memory_order_relaxed);
    s->read_bytes += atomic_load_explicit (&direct->read_bytes,
                                           memory_order_relaxed);
  }
}

static void
collect_clients (const struct segment *segment, struct status *s)
{
  const struct cbw_client *entry;
  struct status_client *c;
  unsigned i;

  s->nr_clients = 0;
  for (i = 0; i < CBW_NR_CLIENTS; ++i) {
    if (atomic_load (&map_client (&segment->map, i)->incarnation) == 0)
      continue;
    entry = map_client (&segment->map, i);
    c = &s->clients[s->nr_clients++];
    *c = (struct status_client) {
      .index = i,
      .alive = liveness_client (segment->fd, i),
      .pid = entry->pid,
      .start_ns = entry->start_ns,
    };
    memcpy (c->name, entry->name, sizeof entry->name);
  }
}

static void
collect_slots (const struct cbw_map *m, struct status *s)
{
  unsigned i, state;

  memset (s->slots, 0, sizeof s->slots);
  for (i = 0; i < CBW_NR_SLOTS; ++i) {
    state = atomic_load (&map_slot (m, i)->state) & SLOT_STATE_MASK;
    if (state < STATUS_SLOT_STATES)
      s->slots[state]++;
  }
}

static void
look_at_target (const struct cbw_snapshot *entry, struct status_snapshot *snap)
{
  struct statvfs fs;
  struct stat st;

  snap->target_is_file = entry->target_kind == CBW_TARGET_RAW;
  if (!snap->target_is_file)
    return;
  snap->target_found = stat (snap->target, &st) == 0 &&
    st.st_dev == entry->target_device && st.st_ino == entry->target_inode;
  if (!snap->target_found)
    return;
  snap->target_used = (uint64_t) st.st_blocks * 512;
  if (statvfs (snap->target, &fs) == 0)
    snap->target_free = (uint64_t) fs.f_bavail * fs.f_frsize;
}

static void
collect_snapshot (struct cbw_snapshot *entry, unsigned i, struct status *s)
{
  struct status_snapshot *snap = &s->snapshots[s->nr_snapshots++];
  const uint64_t cs = s->geometry.cluster_size;

  *snap = (struct status_snapshot) {
    .owned = entry->owner != 0,
    .clusters = entry->size / cs + (entry->size % cs != 0),
    .copied_clusters = atomic_load (&entry->copied_clusters),
    .copied_bytes = atomic_load (&entry->copied_bytes),
    .held_bytes = atomic_load (&entry->held_bytes),
    .error_ns = entry->error_ns,
    .options = entry->options,
    .job = entry->job,
    .increment = entry->increment,
    .stalled_until_ns = atomic_load (&entry->stalled_until_ns),
  };
  entry_info (entry, i, &snap->info);
  entry_target (entry, snap->info.state, snap->target);
  look_at_target (entry, snap);
}

static int
by_age (const void *a, const void *b)
{
  const struct status_snapshot *x = a, *y = b;

  return x->info.id < y->info.id ? -1 : x->info.id > y->info.id;
}

static void
collect_snapshots (const struct cbw_map *m, struct status *s)
{
  struct cbw_snapshot entry;
  uint32_t state;
  unsigned i;

  s->nr_snapshots = s->nr_damaged = 0;
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (entry_copy (m, i, &entry))
      collect_snapshot (&entry, i, s);
    else {
      /* A reservation is being filled in. */
      state = atomic_load (&entry.state);
      s->nr_damaged += state != CBW_SNAPSHOT_EMPTY &&
        state != CBW_SNAPSHOT_RESERVED;
    }
  qsort (s->snapshots, s->nr_snapshots, sizeof s->snapshots[0], by_age);
}

int
status_collect (const char *path, const struct status *last,
                struct status *s, struct error *e)
{
  struct segment segment = SEGMENT_INIT;

  if (segment_look (&segment, path, e) == -1)
    return -1;
  s->now_ns = now_realtime_ns ();
  s->monotonic_ns = now_monotonic_ns ();
  collect_header (&segment, s);
  collect_direct (&segment.map, s);
  collect_clients (&segment, s);
  collect_slots (&segment.map, s);
  collect_snapshots (&segment.map, s);
  status_collect_points (&segment, last, s);
  s->path = segment.path;       /* takes it over */
  segment.path = NULL;
  segment_close (&segment, false);
  return 0;
}

void
status_free (struct status *s)
{
  free (s->path);
  s->path = NULL;
}

uint64_t
status_copied_clusters (const struct status *s)
{
  uint64_t sum = 0;
  unsigned i;

  for (i = 0; i < s->nr_snapshots; ++i)
    sum += s->snapshots[i].copied_clusters;
  return sum;
}

uint64_t
status_copied_bytes (const struct status *s)
{
  uint64_t sum = 0;
  unsigned i;

  for (i = 0; i < s->nr_snapshots; ++i)
    sum += s->snapshots[i].copied_bytes;
  return sum;
}

unsigned
status_visible (const struct status *s)
{
  unsigned i, n = 0;

  for (i = 0; i < s->nr_snapshots; ++i)
    n += s->snapshots[i].info.state == CBW_SNAPSHOT_LIVE ||
      s->snapshots[i].info.state == CBW_SNAPSHOT_BROKEN;
  return n;
}

uint64_t
status_stalled_ns (const struct status *s, const struct status_snapshot *snap)
{
  /* One left by a server that was killed means nothing. */
  if (!s->alive || snap->stalled_until_ns == 0)
    return 0;
  return snap->stalled_until_ns > s->now_ns ?
    snap->stalled_until_ns - s->now_ns : 1;
}

uint64_t
status_room (const struct status_snapshot *snap)
{
  const uint64_t quota = snap->options.quota;

  if (quota == 0)
    return snap->target_free;
  return min_u64 (snap->target_free,
                  quota > snap->held_bytes ? quota - snap->held_bytes : 0);
}

const char *
status_policy_name (const struct status_snapshot *snap)
{
  return snap->options.on_error == CBW_ON_ERROR_BREAK_GUEST_WRITE ?
    "break-guest-write" : "break-snapshot";
}

uint64_t
status_settled (const struct status_snapshot *snap)
{
  return min_u64 (snap->copied_clusters + snap->job.moved_clusters,
                  snap->clusters);
}

uint64_t
status_left_ns (const struct status *s, const struct status_snapshot *snap)
{
  const uint64_t settled = status_settled (snap);

  if (!s->alive || snap->job.state != CBW_JOB_RUNNING || settled == 0 ||
      s->now_ns <= snap->info.created_ns)
    return 0;
  return (uint64_t) ((double) (s->now_ns - snap->info.created_ns) *
                     (double) (snap->clusters - settled) / (double) settled);
}

const char *
status_job_name (const struct status_snapshot *snap)
{
  static const char *const names[] = {
    [CBW_JOB_NO_JOB] = "none", [CBW_JOB_RUNNING] = "running",
    [CBW_JOB_PAUSED] = "paused", [CBW_JOB_STOPPED] = "stopped",
    [CBW_JOB_COMPLETE] = "concluded", [CBW_JOB_FAILED] = "failed",
  };
  const uint32_t state = snap->job.state;

  if (state != CBW_JOB_COMPLETE && snap->info.state == CBW_SNAPSHOT_BROKEN)
    return "failed";
  return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *
status_state_name (const struct status_snapshot *snap)
{
  switch (snap->info.state) {
  case CBW_SNAPSHOT_RESERVED: return "reserved";
  case CBW_SNAPSHOT_LIVE: return snap->info.complete ? "complete" : "live";
  case CBW_SNAPSHOT_BROKEN: return "broken";
  default: return "hidden";
  }
}
