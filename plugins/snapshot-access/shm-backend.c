/* SPDX-License-Identifier: BSD-3-Clause */

/* Snapshots that a filter's server keeps, read through a segment. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "consumer.h"
#include "delta-export.h"
#include "direct.h"
#include "request/client.h"
#include "request/control.h"
#include "request/request.h"
#include "segment/segment.h"
#include "segment/entry.h"
#include "utils/clock.h"
#include "utils/rounding.h"

static struct params *params;
static uint64_t own_id;         /* of the snapshot of our own, or 0 */
static struct client client = { .segment = SEGMENT_INIT };

/* A connection: one snapshot, whatever becomes of its name. */
struct handle {
  struct snapshot_info info;
  struct delta_export *delta;   /* that to this snapshot, or NULL */
  struct direct direct;
  struct consumer consumer;     /* with discard=read */
};

static int
seg_get_ready (struct params *p)
{
  struct error e;

  params = p;
  client.server_timeout_ns = params->timeout_ns;
  if (client_probe (params->shm, params->wait_ns, &e) == -1) {
    nbdkit_error ("%s", e.msg);
    return -1;
  }
  return 0;
}

/* Take a snapshot that lives as long as we do: whatever ends this process,
 * the filter drops it.
 */
static int
create_own (struct error *e)
{
  struct control_snapshot own = { .flags = CBW_CREATE_OWNED };
  struct snapshot_info info;
  uint64_t held_ns;

  if (params->snapshot == NULL)
    params->snapshot = nbdkit_printf_intern ("snapshot-%ld", (long) getpid ());
  if (params->snapshot == NULL)
    return error_set_errno (e, ENOMEM, "create");
  if (params->target == NULL)
    params->target = control_default_target (&client.segment, params->snapshot,
                                            e);
  own.name = params->snapshot;
  own.target = params->target;
  if (params->target == NULL || control_create (&client, &own, &held_ns, e) == -1)
    return -1;
  if (entry_find (&client.segment.map, params->snapshot, &info))
    own_id = info.id;
  nbdkit_debug ("created snapshot \"%s\", writes were held for %" PRIu64
                " us", params->snapshot, held_ns / 1000);
  return 0;
}

static int
seg_after_fork (void)
{
  struct error e;

  if (client_attach (&client, params->shm, "nbdkit snapshot-access", false,
                     params->wait_ns, &e) == -1 ||
      (params->create && create_own (&e) == -1)) {
    nbdkit_error ("%s", e.msg);
    return -1;
  }
  if (params->direct && direct_start () != 0)
    params->direct = false;     /* then through the filter */
  return 0;
}

static void
seg_cleanup (void)
{
  struct error e;

  if (params->direct)
    direct_stop ();
  client.server_timeout_ns = 0; /* if the filter is gone, so be it */
  if (own_id != 0 && control_drop_id (&client, own_id, 0, 0, &e) == -1)
    nbdkit_debug ("%s", e.msg);
  client_detach (&client);
}

static const char *
describe (const struct snapshot_info *info)
{
  const time_t created = (time_t) (info->created_ns / NS_PER_SEC);
  char date[64], state[256];
  struct tm tm;

  gmtime_r (&created, &tm);
  strftime (date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &tm);
  entry_describe (info, state, sizeof state);
  return nbdkit_printf_intern ("snapshot of %s, %s", date, state);
}

static int
seg_list_exports (struct nbdkit_exports *exports)
{
  struct delta_listed delta;
  struct snapshot_info info;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    if (!entry_read (&client.segment.map, i, &info) || info.complete)
      continue;
    if (nbdkit_add_export (exports, info.name, describe (&info)) == -1 ||
        (delta_export_list (&client.segment, &info, &delta) &&
         nbdkit_add_export (exports, delta.name, delta.text) == -1))
      return -1;
  }
  return 0;
}

static const char *
seg_default_export (void)
{
  struct snapshot_info info;

  if (params->snapshot)
    return params->snapshot;
  return entry_find (&client.segment.map, NULL, &info) ?
    nbdkit_strdup_intern (info.name) : "";
}

/* Find the snapshot of that name, or the newest. */
static int
find_snapshot (const char *name, struct snapshot_info *info)
{
  if (!entry_find (&client.segment.map, name, info)) {
    nbdkit_error (name ? "%s: there is no snapshot \"%s\"" :
                  "%s: there is no snapshot", params->shm, name);
    return -1;
  }
  if (info->complete) {
    nbdkit_error ("%s: backup \"%s\" is complete: read its image",
                  params->shm, info->name);
    return -1;
  }
  return 0;
}

/* Open what the name means, a snapshot or a delta. */
static int
open_export (struct handle *h, const char *name)
{
  struct error e;

  if (name == NULL || !delta_is_name (name))
    return find_snapshot (name, &h->info);
  h->delta = delta_export_open (&client.segment, name, &h->info, &e);
  if (h->delta == NULL)
    nbdkit_error ("%s", e.msg);
  return h->delta ? 0 : -1;
}

static void
close_export (struct handle *h)
{
  if (h->delta)
    delta_export_close (h->delta);
  free (h);
}

static void *
seg_open (const char *name)
{
  struct handle *h;

  if (*name == '\0')
    name = params->snapshot;            /* or NULL, the newest */
  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  if (open_export (h, name) == -1 ||
      (params->discard == DISCARD_READ &&
       consumer_start (&h->consumer, &client, &h->info) == -1)) {
    close_export (h);
    return NULL;
  }
  direct_init (&h->direct, &client, params->direct, h->info.id, h->info.name);
  return h;
}

static void
seg_close (void *handle)
{
  struct handle *h = handle;

  direct_free (&h->direct);
  if (params->discard == DISCARD_READ)
    consumer_stop (&h->consumer);
  close_export (h);
}

static const char *
seg_export_description (void *handle)
{
  const struct handle *h = handle;
  char text[DELTA_TEXT_MAX];
  struct snapshot_info now;
  const char *snapshot;

  snapshot = describe (entry_read (&client.segment.map, h->info.index, &now) &&
                       now.id == h->info.id ? &now : &h->info);
  if (h->delta == NULL || snapshot == NULL)
    return snapshot;
  delta_export_describe (&h->delta->delta, h->delta->bytes, text, sizeof text);
  return nbdkit_printf_intern ("%s; %s", text, snapshot);
}

static int64_t
seg_get_size (void *handle)
{
  const struct handle *h = handle;

  return (int64_t) h->info.size;
}

static int
seg_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
               uint32_t *maximum)
{
  const struct cbw_header *header = map_header (&client.segment.map);
  const uint32_t source_minimum = header->source_minimum_block;
  const uint32_t cluster_size = client.segment.map.geometry.cluster_size;

  (void) handle;
  /* What the source needs; a cluster at least is best. */
  *minimum = is_power_of_2 (source_minimum) && source_minimum <= 65536 ?
    source_minimum : 1;
  *preferred = (uint32_t) max_u64 (cluster_size, *minimum);
  *maximum = UINT32_MAX;
  return 0;
}

static int
seg_can_trim (void *handle)
{
  (void) handle;
  return params->discard == DISCARD_TRIM;
}

/* Any connection sees the same, unchanging, bytes. */
static int
seg_can_multi_conn (void *handle)
{
  (void) handle;
  return params->discard != DISCARD_READ;
}

/* Turn the errno of a failed request into an error. */
static int
reply (const struct handle *h, int r, const char *what, uint32_t count,
       uint64_t offset)
{
  if (r == 0)
    return 0;
  nbdkit_set_error (r);
  errno = r;
  nbdkit_error ("snapshot \"%s\": cannot %s %" PRIu32 " bytes at offset %"
                PRIu64 ": %s", h->info.name, what, count, offset,
                r == ESHUTDOWN ?
                "the snapshot, or the filter that serves it, is gone" :
                strerror (r));
  return -1;
}

/* How much is read directly at a time: what comes between is the turn of
 * others.
 */
#define DIRECT_READ_MAX CBW_SLOT_BUFFER_SIZE

/* Read directly as much as can be, and ask for the rest. */
static int
read_range (struct handle *h, char *buf, uint32_t count, uint64_t offset)
{
  uint32_t n;

  for (; count > 0; count -= n, buf += n, offset += n) {
    n = (uint32_t) min_u64 (count, DIRECT_READ_MAX);
    if (!direct_read (&h->direct, buf, n, offset))
      return request_read (&client, h->info.id, buf, count, offset);
  }
  return 0;
}

static int
seg_pread (void *handle, void *buf, uint32_t count, uint64_t offset)
{
  struct handle *h = handle;
  int r;

  r = read_range (h, buf, count, offset);
  if (r == 0 && params->discard == DISCARD_READ)
    r = consumer_has_read (&h->consumer, count, offset);
  return reply (h, r, "read", count, offset);
}

static int
seg_pwrite (void *handle, uint32_t count, uint64_t offset)
{
  const struct handle *h = handle;

  return reply (h, EPERM, "write", count, offset);
}

static int
seg_trim (void *handle, uint32_t count, uint64_t offset)
{
  const struct handle *h = handle;

  return reply (h, request_discard (&client, h->info.id, count, offset),
                "discard", count, offset);
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t type)
{
  return nbdkit_add_extent (opaque, offset, length,
                            (type & CBW_EXTENT_HOLE ? NBDKIT_EXTENT_HOLE : 0) |
                            (type & CBW_EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0));
}

/* The extents of the snapshot. */
static int
view_extents (void *handle, uint32_t count, uint64_t offset,
              int (*add) (void *opaque, uint64_t offset, uint64_t length,
                          uint32_t type),
              void *opaque)
{
  struct handle *h = handle;
  int r;

  if (!direct_extents (&h->direct, count, offset, add, opaque, &r))
    r = request_extents (&client, h->info.id, count, offset, h->info.size,
                         add, opaque);
  return r;
}

static int
seg_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
             struct nbdkit_extents *extents)
{
  struct handle *h = handle;
  const struct delta_view view = { .ask = view_extents, .handle = h };
  int r;

  r = h->delta == NULL ?
    view_extents (h, count, offset, add_extent, extents) :
    delta_export_extents (&h->delta->delta, count, offset,
                          flags & NBDKIT_FLAG_REQ_ONE, &view, add_extent,
                          extents);
  return reply (h, r, "map", count, offset);
}

static int
seg_cache (void *handle, uint32_t count, uint64_t offset)
{
  const struct handle *h = handle;

  return reply (h, request_cache (&client, h->info.id, count, offset),
                "cache", count, offset);
}

const struct backend shm_backend = {
  .get_ready          = seg_get_ready,
  .after_fork         = seg_after_fork,
  .cleanup            = seg_cleanup,
  .list_exports       = seg_list_exports,
  .default_export     = seg_default_export,
  .open               = seg_open,
  .close              = seg_close,
  .export_description = seg_export_description,
  .get_size           = seg_get_size,
  .block_size         = seg_block_size,
  .can_trim           = seg_can_trim,
  .can_multi_conn     = seg_can_multi_conn,
  .pread              = seg_pread,
  .pwrite             = seg_pwrite,
  .trim               = seg_trim,
  .extents            = seg_extents,
  .cache              = seg_cache,
};
