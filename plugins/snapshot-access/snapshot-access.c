/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit-snapshot-access-plugin: nbdkit's callbacks, and nothing else.  The
 * work is done by the back-end that the parameters choose.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "segment/layout.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct params params = PARAMS_INIT;
static const struct backend *backend;

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
  printf ("qcow2=yes\n");
}

static int
sa_config (const char *key, const char *value)
{
  return params_parse (&params, key, value);
}

static int
sa_config_complete (void)
{
  return params_complete (&params);
}

static int
sa_get_ready (void)
{
  backend = params.qcow2 ? &qcow2_backend : &shm_backend;
  return backend->get_ready (&params);
}

static int
sa_after_fork (void)
{
  return backend->after_fork ? backend->after_fork () : 0;
}

static void
sa_cleanup (void)
{
  if (backend && backend->cleanup)
    backend->cleanup ();
}

static int
sa_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) readonly;
  (void) is_tls;
  return backend->list_exports (exports);
}

static const char *
sa_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  return backend->default_export ();
}

static void *
sa_open (int readonly)
{
  const char *name = nbdkit_export_name ();

  (void) readonly;
  return name ? backend->open (name) : NULL;
}

static void
sa_close (void *handle)
{
  backend->close (handle);
}

static const char *
sa_export_description (void *handle)
{
  return backend->export_description (handle);
}

static int64_t
sa_get_size (void *handle)
{
  return backend->get_size (handle);
}

static int
sa_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
               uint32_t *maximum)
{
  return backend->block_size (handle, minimum, preferred, maximum);
}

static int
sa_can_trim (void *handle)
{
  return backend->can_trim ? backend->can_trim (handle) : 0;
}

/* nbdkit passes trims only to what is writable; writes fail all the same. */
static int
sa_can_write (void *handle)
{
  return sa_can_trim (handle);
}

static int
sa_can_multi_conn (void *handle)
{
  return backend->can_multi_conn (handle);
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
  return backend->cache ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE;
}

static int
sa_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
          uint32_t flags)
{
  (void) flags;
  return backend->pread (handle, buf, count, offset);
}

static int
sa_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
           uint32_t flags)
{
  (void) buf;
  (void) flags;
  return backend->pwrite (handle, count, offset);
}

static int
sa_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  return backend->trim (handle, count, offset);
}

static int
sa_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
            struct nbdkit_extents *extents)
{
  return backend->extents (handle, count, offset, flags, extents);
}

static int
sa_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  return backend->cache (handle, count, offset);
}

static struct nbdkit_plugin plugin = {
  .name               = "snapshot-access",
  .longname           = "nbdkit snapshot access plugin",
  .version            = PACKAGE_VERSION,
  .description        = "Serves the snapshots that nbdkit-cbw-filter keeps, "
                        "or those in a qcow2 image, each as a read-only "
                        "export.",
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
