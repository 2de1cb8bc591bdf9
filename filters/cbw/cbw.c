/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit-cbw-filter: nbdkit's callbacks, and nothing else.
 *
 * Which connections are the protected disk?  Without cbw-export=, all of
 * them, whatever name the client asks for: most plugins serve the same
 * disk under every name, and preserving too much does no harm.  With it,
 * those that ask for that name; others pass.
 *
 * The snapshot is read through a context of our own, at exactly this
 * layer of the stack.  It is opened as the server starts; but a plugin
 * that serves different disks by name can ask for the name only on behalf
 * of a connection.  So with cbw-export= it is opened for the first client
 * of that export, before that client can write.  From then on only
 * service threads use it, so that nothing looks for its connection, which
 * may have ended.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "engine.h"
#include "params.h"
#include "server.h"
#include "source.h"

static struct params params = PARAMS_INIT;

/* Taken around calls below unless the thread model is parallel. */
static pthread_mutex_t serial_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *serial;

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static struct server server;
static nbdkit_next *background; /* NULL: the server has not started */

struct handle {
  bool protected;
};

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

/* Open the background context and start the server with it. */
static int
start (nbdkit_backend *backend, const char *exportname, bool shared)
{
  struct source source = { .serial = serial };
  struct source_info info;

  source.next = nbdkit_next_context_open (backend, 1, exportname, shared);
  if (source.next == NULL) {
    nbdkit_error ("cbw: cannot open the disk to be protected%s",
                  shared ? " (a plugin with several exports needs "
                  "cbw-export=NAME)" : "");
    return -1;
  }
  if (source_prepare (source.next, &info) == -1 ||
      server_start (&server, &params, &source, &info) == -1) {
    source.next->finalize (source.next);
    nbdkit_next_context_close (source.next);
    return -1;
  }
  background = source.next;
  return 0;
}

static int
cbw_after_fork (nbdkit_backend *backend)
{
  if (params.export)
    return 0;
  return start (backend, "", true);
}

static void *
close_background (void *unused)
{
  (void) unused;
  background->finalize (background);
  nbdkit_next_context_close (background);
  return NULL;
}

static void
cbw_cleanup (nbdkit_backend *backend)
{
  pthread_t thread;

  (void) backend;
  if (background == NULL)
    return;
  server_stop (&server);
  /* In a thread which nbdkit does not know: see the top. */
  if (pthread_create (&thread, NULL, close_background, NULL) == 0)
    pthread_join (thread, NULL);
}

static void *
cbw_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
          const char *exportname, int is_tls)
{
  struct handle *h;

  (void) is_tls;
  if (next (context, readonly, exportname) == -1)
    return NULL;
  h = malloc (sizeof *h);
  if (h == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  h->protected = !params.export || strcmp (params.export, exportname) == 0;
  if (h->protected) {
    LOCK_FOR_SCOPE (&start_lock);
    if (background == NULL &&
        start (nbdkit_context_get_backend (context), exportname,
               false) == -1) {
      free (h);
      return NULL;
    }
  }
  return h;
}

static void
cbw_close (void *handle)
{
  free (handle);
}

/* The engine asks for extents, which a client may never have done. */
static int
cbw_prepare (nbdkit_next *next, void *handle, int readonly)
{
  (void) handle;
  (void) readonly;
  return next->can_extents (next) == -1 ? -1 : 0;
}

/* Where old data is read in a guest's thread: through the background
 * context, or with cbw-export= through the guest's own, which is the same
 * disk.
 */
static struct source
guest_source (nbdkit_next *next)
{
  return (struct source) {
    .next = params.export ? next : background,
    .serial = serial,
  };
}

/* A guest's change begins; the result goes to guest_end. */
static unsigned
guest_begin (nbdkit_next *next, const struct handle *h, uint64_t offset,
             uint32_t count, enum guest_op op)
{
  const struct source source = guest_source (next);

  return h->protected ?
    engine_guest_begin (&server.engine, &source, offset, count, op) : 0;
}

static void
guest_end (const struct handle *h, unsigned ticket)
{
  if (h->protected)
    engine_guest_end (&server.engine, ticket);
}

static int
cbw_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
           uint64_t offset, uint32_t flags, int *err)
{
  (void) handle;
  LOCK_FOR_SCOPE (serial);
  return next->pread (next, buf, count, offset, flags, err);
}

static int
cbw_pwrite (nbdkit_next *next, void *handle, const void *buf, uint32_t count,
            uint64_t offset, uint32_t flags, int *err)
{
  const unsigned ticket = guest_begin (next, handle, offset, count,
                                       GUEST_WRITE);
  int r;

  {
    LOCK_FOR_SCOPE (serial);
    r = next->pwrite (next, buf, count, offset, flags, err);
  }
  guest_end (handle, ticket);
  return r;
}

static int
cbw_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
          uint32_t flags, int *err)
{
  const struct handle *h = handle;
  unsigned ticket;
  int r;

  /* Fast means: fail at once rather than take as long as a write. */
  if ((flags & NBDKIT_FLAG_FAST_ZERO) && h->protected &&
      engine_guest_would_copy (&server.engine, offset, count)) {
    *err = ENOTSUP;
    return -1;
  }
  ticket = guest_begin (next, h, offset, count, GUEST_ZERO);
  {
    LOCK_FOR_SCOPE (serial);
    r = next->zero (next, count, offset, flags, err);
  }
  guest_end (h, ticket);
  return r;
}

static int
cbw_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
          uint32_t flags, int *err)
{
  const unsigned ticket = guest_begin (next, handle, offset, count,
                                       GUEST_TRIM);
  int r;

  {
    LOCK_FOR_SCOPE (serial);
    r = next->trim (next, count, offset, flags, err);
  }
  guest_end (handle, ticket);
  return r;
}

static int
cbw_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  (void) handle;
  LOCK_FOR_SCOPE (serial);
  return next->flush (next, flags, err);
}

static int
cbw_extents (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags, struct nbdkit_extents *extents, int *err)
{
  (void) handle;
  LOCK_FOR_SCOPE (serial);
  return next->extents (next, count, offset, flags, extents, err);
}

static int
cbw_cache (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
           uint32_t flags, int *err)
{
  (void) handle;
  LOCK_FOR_SCOPE (serial);
  return next->cache (next, count, offset, flags, err);
}

static struct nbdkit_filter filter = {
  .name            = "cbw",
  .longname        = "nbdkit copy-before-write filter",
  .description     = "Live point-in-time snapshots of the disk, read through "
                     "nbdkit-snapshot-access-plugin.",
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
  .pread           = cbw_pread,
  .pwrite          = cbw_pwrite,
  .flush           = cbw_flush,
  .trim            = cbw_trim,
  .zero            = cbw_zero,
  .extents         = cbw_extents,
  .cache           = cbw_cache,
};

NBDKIT_REGISTER_FILTER (filter)
