/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit-snapshot-access-plugin: nbdkit's callbacks, and nothing else. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "cleanup.h"
#include "client.h"
#include "clock.h"
#include "control.h"
#include "coverage.h"
#include "liveness.h"
#include "params.h"
#include "request.h"
#include "rounding.h"
#include "segment.h"
#include "snaptab.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct params params = PARAMS_INIT;
static uint64_t own_id;         /* of the snapshot of our own, or 0 */
static struct client client = { .segment = SEGMENT_INIT };

/* A connection: one snapshot, whatever becomes of its name. */
struct handle {
  struct snapshot_info info;
  struct coverage coverage;     /* with discard=read */
};

static void
sa_unload (void)
{
  params_free (&params);
}

static void
sa_dump_plugin (void)
{
  printf ("segment_version=%" PRIu32 "\n", CBW_VERSION);
  printf ("segment_max_snapshots=%d\n", CBW_NR_SNAPSHOTS);
  printf ("segment_max_clients=%d\n", CBW_NR_CLIENTS);
}

static int
sa_config (const char *key, const char *value)
{
  return params_parse (&params, key, value);
}

static int
sa_config_complete (void)
{
  client.server_timeout_ns = params.timeout_ns;
  return params_complete (&params);
}

static int
sa_get_ready (void)
{
  struct error e;

  if (client_probe (params.shm, params.wait_ns, &e) == -1) {
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

  if (params.snapshot == NULL)
    params.snapshot = nbdkit_printf_intern ("snapshot-%ld", (long) getpid ());
  if (params.snapshot == NULL)
    return error_set_errno (e, ENOMEM, "create");
  if (params.target == NULL)
    params.target = control_default_target (&client.segment, params.snapshot,
                                            e);
  own.name = params.snapshot;
  own.target = params.target;
  if (params.target == NULL || control_create (&client, &own, &held_ns, e) == -1)
    return -1;
  if (snaptab_find (&client.segment.map, params.snapshot, &info))
    own_id = info.id;
  nbdkit_debug ("created snapshot \"%s\", writes were held for %" PRIu64
                " us", params.snapshot, held_ns / 1000);
  return 0;
}

static int
sa_after_fork (void)
{
  struct error e;

  if (client_attach (&client, params.shm, "nbdkit snapshot-access", params.wait_ns,
                     &e) == -1 ||
      (params.create && create_own (&e) == -1)) {
    nbdkit_error ("%s", e.msg);
    return -1;
  }
  return 0;
}

static void
sa_cleanup (void)
{
  struct error e;

  client.server_timeout_ns = 0; /* if the filter is gone, so be it */
  if (own_id != 0 && control_drop_id (&client, own_id, &e) == -1)
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
  snaptab_describe (info, state, sizeof state);
  return nbdkit_printf_intern ("snapshot of %s, %s", date, state);
}

static int
sa_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  struct snapshot_info info;
  unsigned i;

  (void) readonly;
  (void) is_tls;
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (snaptab_read (&client.segment.map, i, &info) &&
        nbdkit_add_export (exports, info.name, describe (&info)) == -1)
      return -1;
  return 0;
}

static const char *
sa_default_export (int readonly, int is_tls)
{
  struct snapshot_info info;

  (void) readonly;
  (void) is_tls;
  if (params.snapshot)
    return params.snapshot;
  return snaptab_find (&client.segment.map, NULL, &info) ?
    nbdkit_strdup_intern (info.name) : "";
}

/* How long a client waits for another to go. */
#define CONSUMER_WAIT NS_PER_SEC

/* With discard=read: snapshot entries that a connection of ours reads. */
static uint64_t consumed;
static pthread_mutex_t consumed_lock = PTHREAD_MUTEX_INITIALIZER;

/* Become the one client that reads the snapshot and discards it: of this
 * process, then of all.
 */
static bool
take_consumer (unsigned index)
{
  const uint64_t bit = UINT64_C (1) << index;

  LOCK_FOR_SCOPE (&consumed_lock);
  if ((consumed & bit) ||
      liveness_take_consumer (client.segment.fd, index) != 1)
    return false;
  consumed |= bit;
  return true;
}

static int
start_consuming (struct handle *h)
{
  const uint64_t until = now_monotonic_ns () + CONSUMER_WAIT;
  bool taken;

  /* Of a client that has just gone (nbdinfo, say) the connection may not
   * have ended yet.
   */
  while (!(taken = take_consumer (h->info.index)) &&
         now_monotonic_ns () < until &&
         nbdkit_nanosleep (0, 20 * NS_PER_MS) == 0)
    ;
  if (!taken) {
    nbdkit_error ("snapshot \"%s\" is being read by another client with "
                  "discard=read; only one can", h->info.name);
    return -1;
  }
  coverage_init (&h->coverage, h->info.size,
                 client.segment.map.geometry.cluster_size);
  return 0;
}

static void *
sa_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  struct handle *h;

  (void) readonly;
  if (name == NULL)
    return NULL;
  if (*name == '\0')
    name = params.snapshot;            /* or NULL, the newest */
  h = malloc (sizeof *h);
  if (h == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  if (!snaptab_find (&client.segment.map, name, &h->info)) {
    nbdkit_error (name ? "%s: there is no snapshot \"%s\"" :
                  "%s: there is no snapshot", params.shm, name);
    free (h);
    return NULL;
  }
  if (params.discard == DISCARD_READ && start_consuming (h) == -1) {
    free (h);
    return NULL;
  }
  return h;
}

static void
sa_close (void *handle)
{
  struct handle *h = handle;

  if (params.discard == DISCARD_READ) {
    coverage_destroy (&h->coverage);
    pthread_mutex_lock (&consumed_lock);
    consumed &= ~(UINT64_C (1) << h->info.index);
    liveness_release_consumer (client.segment.fd, h->info.index);
    pthread_mutex_unlock (&consumed_lock);
  }
  free (h);
}

static const char *
sa_export_description (void *handle)
{
  const struct handle *h = handle;
  struct snapshot_info now;

  return describe (snaptab_read (&client.segment.map, h->info.index, &now) &&
                   now.id == h->info.id ? &now : &h->info);
}

static int64_t
sa_get_size (void *handle)
{
  const struct handle *h = handle;

  return (int64_t) h->info.size;
}

static int
sa_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
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

/* nbdkit passes trims only to what is writable; writes fail all the same. */
static int
sa_can_write (void *handle)
{
  (void) handle;
  return params.discard == DISCARD_TRIM;
}

static int
sa_can_trim (void *handle)
{
  (void) handle;
  return params.discard == DISCARD_TRIM;
}

/* Any connection sees the same, unchanging, bytes. */
static int
sa_can_multi_conn (void *handle)
{
  (void) handle;
  return params.discard != DISCARD_READ;
}

static int
sa_can_extents (void *handle)
{
  (void) handle;
  return 1;
}

static int
sa_can_cache (void *handle)
{
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
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

static int
sa_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
          uint32_t flags)
{
  struct handle *h = handle;
  uint64_t from, to;
  int r;

  (void) flags;
  r = request_read (&client, h->info.id, buf, count, offset);
  if (r == 0 && params.discard == DISCARD_READ &&
      coverage_add (&h->coverage, offset, offset + count, &from, &to) == 0 &&
      from < to)
    r = request_discard (&client, h->info.id, to - from, from);
  return reply (h, r, "read", count, offset);
}

static int
sa_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
           uint32_t flags)
{
  const struct handle *h = handle;

  (void) buf;
  (void) flags;
  return reply (h, EPERM, "write", count, offset);
}

static int
sa_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  const struct handle *h = handle;

  (void) flags;
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

static int
sa_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
            struct nbdkit_extents *extents)
{
  const struct handle *h = handle;

  (void) flags;
  return reply (h, request_extents (&client, h->info.id, count, offset,
                                    h->info.size, add_extent, extents),
                "map", count, offset);
}

static int
sa_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  const struct handle *h = handle;

  (void) flags;
  return reply (h, request_cache (&client, h->info.id, count, offset),
                "cache", count, offset);
}

static struct nbdkit_plugin plugin = {
  .name               = "snapshot-access",
  .longname           = "nbdkit snapshot access plugin",
  .version            = PACKAGE_VERSION,
  .description        = "Serves the snapshots that nbdkit-cbw-filter keeps, "
                        "each as a read-only export.",
  .unload             = sa_unload,
  .dump_plugin        = sa_dump_plugin,
  .config             = sa_config,
  .config_complete    = sa_config_complete,
  .config_help        = PARAMS_HELP,
  .magic_config_key   = "shm",
  .get_ready          = sa_get_ready,
  .after_fork         = sa_after_fork,
  .cleanup            = sa_cleanup,
  .list_exports       = sa_list_exports,
  .default_export     = sa_default_export,
  .open               = sa_open,
  .close              = sa_close,
  .export_description = sa_export_description,
  .get_size           = sa_get_size,
  .block_size         = sa_block_size,
  .can_write          = sa_can_write,
  .can_trim           = sa_can_trim,
  .can_multi_conn     = sa_can_multi_conn,
  .can_extents        = sa_can_extents,
  .can_cache          = sa_can_cache,
  .pread              = sa_pread,
  .pwrite             = sa_pwrite,
  .trim               = sa_trim,
  .extents            = sa_extents,
  .cache              = sa_cache,
};

NBDKIT_REGISTER_PLUGIN (plugin)
