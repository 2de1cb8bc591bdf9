/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit-cbw-filter: nbdkit's callbacks, and nothing else.
 *
 * Which connections are the protected disk?  Without cbw-export=, all of
 * them, whatever name the client asks for: most plugins serve the same
 * disk under every name, and preserving too much does no harm.  With it,
 * those that ask for that name; others pass.
 *
 * The snapshot is read through a context at exactly this layer of the
 * stack, used by service threads for the life of the server.  Usually we
 * open one of our own as the server starts.  But a plugin that serves
 * different disks by name can learn the name only from a connection, and
 * nbdkit opens a plugin only once for each.  So with cbw-export= the
 * first request of a client of that export starts the server, and its
 * connection lends its context: when it ends, the context is taken from
 * it and lives on.  (Not before the first request, since until then the
 * client may go on to another export.)  Such a context is never closed,
 * for that would touch the connection, which is gone.  A connection that
 * finds a larger disk than the last lender did lends its context in the same
 * way.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "below/disk.h"
#include "below/patience.h"
#include "below/plugin.h"
#include "below/source.h"
#include "guest/engine.h"
#include "guest/guest.h"
#include "params.h"
#include "server.h"
#include "utils/cleanup.h"

static struct params params = PARAMS_INIT;

/* Taken around calls below unless the thread model is parallel. */
static pthread_mutex_t serial_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *serial;

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static struct server server;
static struct disk disk;
static _Atomic (bool) started;  /* the server may be used */

struct handle {
  nbdkit_context *context;
  bool protected;
  bool lender;                  /* our next is, or was, the disk's */
  struct guest guest;
};

static unsigned loads;          /* how often nbdkit has loaded this filter */

static void
cbw_load (void)
{
  loads++;
}

static void
cbw_unload (void)
{
  params_free (&params);
}

static int
cbw_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
            const char *key, const char *value)
{
  const int r = params_parse (&params, key, value);

  if (r == 0)
    return next (nxdata, key, value);
  return r == 1 ? 0 : -1;
}

static int
cbw_config_complete (nbdkit_next_config_complete *next,
                     nbdkit_backend *nxdata)
{
  if (loads > 1) {
    nbdkit_error ("cbw: --filter=cbw is given %u times; once is enough, as "
                  "one filter takes any number of snapshots", loads);
    return -1;
  }
  if (params_complete (&params) == -1)
    return -1;
  return next (nxdata);
}

static int
cbw_get_ready (int thread_model)
{
  if (thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS) {
    nbdkit_error ("cbw: this plugin (or a filter in use) allows only one "
                  "connection at a time (thread model "
                  "serialize_connections), but the snapshot must be read "
                  "beside the guest's connection");
    return -1;
  }
  if (thread_model != NBDKIT_THREAD_MODEL_PARALLEL)
    serial = &serial_lock;
  return server_probe (&params);
}

/* Start the server, which reads the disk. */
static int
start_server (void)
{
  const struct source source = source_of_disk (&disk);
  struct source_info info;
  int r;

  {
    LOCK_FOR_SCOPE (serial);
    r = source_describe (disk_next (&disk), &info);
  }
  info.local = plugin_is_local ();
  info.kept = plugin_keeps_changes ();
  if (r == -1 || server_start (&server, &params, &source, &info) == -1)
    return -1;
  atomic_store (&started, true);
  return 0;
}

static int
cbw_after_fork (nbdkit_backend *backend)
{
  disk_init (&disk, params.export ? NULL : backend, serial);
  disk.flush_writes = plugin_writes_at_flush ();
  disk.forgets = plugin_forgets ();
  if (params.export) {
    disk_has_no_file (&disk, "cbw-export= reads it through a connection");
    return 0;
  }
  if (disk_open (&disk, params.direct || params.track, params.direct) == -1) {
    nbdkit_error ("cbw: cannot open the disk to be protected "
                  "(a plugin with several exports needs cbw-export=NAME)");
    return -1;
  }
  if (start_server () == -1) {
    disk_stop (&disk);
    if (disk_join (&disk, 0))
      disk_free (&disk);
    return -1;
  }
  return 0;
}

/* With cbw-export=: lend the connection's context, and start the server if
 * it has not been started.
 */
static int
lend (nbdkit_next *next, struct handle *h)
{
  struct source_info info;
  int r;

  LOCK_FOR_SCOPE (&start_lock);
  {
    LOCK_FOR_SCOPE (serial);
    r = source_describe (next, &info);
  }
  if (r == -1)
    return -1;
  if (disk_lend (&disk, next, info.size))
    h->lender = true;           /* from now on, whatever happens */
  return atomic_load (&started) ? 0 : start_server ();
}

/* Before each request: with cbw-export= the first one starts the server, and
 * the first one of a connection that sees a larger disk lends its context.
 */
static int
begin_request (nbdkit_next *next, struct handle *h, int *err)
{
  if (!h->protected ||
      (atomic_load_explicit (&started, memory_order_acquire) &&
       (!params.export || h->guest.size <= disk_size (&disk))))
    return 0;
  if (lend (next, h) == 0)
    return 0;
  *err = EIO;
  return -1;
}

/* A thread of ours cannot be ended: this code must not be unloaded. */
static void
keep_loaded (void)
{
  Dl_info info;

  if (dladdr (&params, &info) != 0)
    dlopen (info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

/* Has it ended?  What was lent stays: see the top. */
static bool
end_server (void)
{
  server_stop (&server);
  if (!server_join (&server, now_monotonic_ns () + patience_at_stop_ns ()))
    return false;
  server_free (&server);
  disk_stop (&disk);
  if (!disk_join (&disk, now_monotonic_ns () + patience_at_stop_ns ()))
    return false;
  disk_free (&disk);
  return true;
}

static void
cbw_cleanup (nbdkit_backend *backend)
{
  (void) backend;
  if (atomic_load (&started) && !end_server ())
    keep_loaded ();
}

static void *
cbw_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
          const char *exportname, int is_tls)
{
  struct handle *h;
  int r;

  (void) is_tls;
  {
    LOCK_FOR_SCOPE (serial);
    r = next (context, readonly, exportname);
  }
  if (r == -1)
    return NULL;
  h = malloc (sizeof *h);
  if (h == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  h->context = context;
  h->protected = !params.export || strcmp (params.export, exportname) == 0;
  h->lender = false;
  return h;
}

/* The connection ends; what it lent is not to be closed with it. */
static int
cbw_finalize (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  if (h->lender)
    nbdkit_context_set_next (h->context, NULL);
  return 0;
}

static void
cbw_close (void *handle)
{
  free (handle);
}

static int
cbw_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;

  (void) readonly;
  return h->protected ? guest_prepare (&h->guest, &disk, next) : 0;
}


/* A guest's change begins.  0, or -1 with *err set if it must fail. */
static int
begin_change (nbdkit_next *next, struct handle *h, struct change *c, int *err)
{
  int r;

  if (begin_request (next, h, err) == -1)
    return -1;
  r = h->protected ? guest_begin (&h->guest, &server.engine, &disk, c) : 0;
  if (r == 0)
    return 0;
  *err = r;
  return -1;
}

/* It has ended, with 0 or an errno. */
static void
end_change (struct handle *h, struct change *c, int err)
{
  if (h->protected)
    guest_end (&h->guest, &server.engine, &disk, c, err);
}

static int
cbw_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
           uint64_t offset, uint32_t flags, int *err)
{
  if (begin_request (next, handle, err) == -1)
    return -1;
  LOCK_FOR_SCOPE (serial);
  return next->pread (next, buf, count, offset, flags, err);
}

static int
cbw_pwrite (nbdkit_next *next, void *handle, const void *buf, uint32_t count,
            uint64_t offset, uint32_t flags, int *err)
{
  struct change c = {
    .offset = offset, .count = count, .op = GUEST_WRITE, .data = buf
  };
  int r;

  if (begin_change (next, handle, &c, err) == -1)
    return -1;
  {
    LOCK_FOR_SCOPE (serial);
    r = next->pwrite (next, buf, count, offset, flags, err);        /* W5 */
  }
  end_change (handle, &c, r == 0 ? 0 : *err);
  return r;
}

static int
cbw_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
          uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct change c = { .offset = offset, .count = count, .op = GUEST_ZERO };
  int r;

  if (begin_request (next, h, err) == -1)
    return -1;
  /* Fast means: fail at once rather than take as long as a write. */
  if ((flags & NBDKIT_FLAG_FAST_ZERO) && h->protected &&
      engine_guest_would_copy (&server.engine, offset, count)) {
    *err = ENOTSUP;
    return -1;
  }
  if (begin_change (next, h, &c, err) == -1)
    return -1;
  {
    LOCK_FOR_SCOPE (serial);
    r = next->zero (next, count, offset, flags, err);               /* W5 */
  }
  end_change (h, &c, r == 0 ? 0 : *err);
  return r;
}

static int
cbw_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
          uint32_t flags, int *err)
{
  struct change c = { .offset = offset, .count = count, .op = GUEST_TRIM };
  int r;

  if (begin_change (next, handle, &c, err) == -1)
    return -1;
  {
    LOCK_FOR_SCOPE (serial);
    r = next->trim (next, count, offset, flags, err);               /* W5 */
  }
  end_change (handle, &c, r == 0 ? 0 : *err);
  return r;
}

static int
cbw_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  if (begin_request (next, handle, err) == -1)
    return -1;
  LOCK_FOR_SCOPE (serial);
  return next->flush (next, flags, err);
}

static int
cbw_extents (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags, struct nbdkit_extents *extents, int *err)
{
  if (begin_request (next, handle, err) == -1)
    return -1;
  LOCK_FOR_SCOPE (serial);
  return next->extents (next, count, offset, flags, extents, err);
}

static int
cbw_cache (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
           uint32_t flags, int *err)
{
  if (begin_request (next, handle, err) == -1)
    return -1;
  LOCK_FOR_SCOPE (serial);
  return next->cache (next, count, offset, flags, err);
}

static struct nbdkit_filter filter = {
  .name            = "cbw",
  .longname        = "nbdkit copy-before-write filter",
  .description     = "Live point-in-time snapshots of the disk, read through "
                     "nbdkit-snapshot-access-plugin.",
  .load            = cbw_load,
  .unload          = cbw_unload,
  .config          = cbw_config,
  .config_complete = cbw_config_complete,
  .config_help     = params_help,
  .get_ready       = cbw_get_ready,
  .after_fork      = cbw_after_fork,
  .cleanup         = cbw_cleanup,
  .open            = cbw_open,
  .close           = cbw_close,
  .prepare         = cbw_prepare,
  .finalize        = cbw_finalize,
  .pread           = cbw_pread,
  .pwrite          = cbw_pwrite,
  .flush           = cbw_flush,
  .trim            = cbw_trim,
  .zero            = cbw_zero,
  .extents         = cbw_extents,
  .cache           = cbw_cache,
};

NBDKIT_REGISTER_FILTER (filter)
