/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests to a qcow2 image's snapshot: they go to qemu-nbd, and count only if
 * the snapshot is still in the table afterwards.  A request that fails is
 * tried once more with a new qemu-nbd.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "qcow2-nbd.h"
#include "qcow2-view.h"
#include "qcow2-watch.h"
#include "utils/cleanup.h"

/* How often is a qemu-nbd started anew as the table changed meanwhile? */
#define START_TRIES 5

/* A running qemu-nbd, and the requests that use it. */
struct server {
  struct image *image;
  uint64_t size;                /* of the disk when it was started */
  unsigned users;
};

struct qcow2_view {
  struct qcow2_view *next;      /* under views_lock */
  unsigned refs;                /* the same */

  struct qcow2_watch watch;

  pthread_mutex_t server_lock;
  struct server *server;        /* or NULL: none yet, or it failed */
};

static struct qcow2_view *views;
static pthread_mutex_t views_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- qemu-nbd ------------------------------------------------------------ */

/* Start one, which reads the table itself: that was the same before and
 * after, so it has found what we would have.
 */
static struct image *
start_server (struct qcow2_watch *w, uint64_t *size, struct error *e)
{
  struct qcow2_table before;
  struct image *image;
  bool same;
  unsigned i;

  for (i = 0; i < START_TRIES; ++i) {
    if (qcow2_watch_read (w, &before, e) == NULL)
      return NULL;
    image = qcow2_nbd_start (w->path, w->snapshot, size, e);
    same = qcow2_table_unchanged (w->fd, &before, before.nr - 1,
                                  &(struct error) { 0 }) == 1;
    qcow2_table_free (&before);
    if (same && (image == NULL || qcow2_watch_same_file (w, e) == 0))
      return image;
    if (image)
      image->ops->close (image);
    if (same)
      return NULL;
  }
  error_set (e, EAGAIN, "%s: its snapshot table changes all the time",
             w->path);
  return NULL;
}

static struct server *
server_get (struct qcow2_view *v, struct error *e)
{
  struct server *s;

  LOCK_FOR_SCOPE (&v->server_lock);
  if (v->server == NULL) {
    s = calloc (1, sizeof *s);
    if (s == NULL) {
      error_set_errno (e, ENOMEM, "%s", v->watch.path);
      return NULL;
    }
    s->image = start_server (&v->watch, &s->size, e);
    if (s->image == NULL) {
      free (s);
      return NULL;
    }
    v->server = s;
  }
  v->server->users++;
  return v->server;
}

static void
server_free (struct server *s)
{
  s->image->ops->close (s->image);
  free (s);
}

/* If it failed, maybe as it has ended, the next request starts another. */
static void
server_put (struct qcow2_view *v, struct server *s, bool failed)
{
  bool last;

  pthread_mutex_lock (&v->server_lock);
  if (failed && v->server == s)
    v->server = NULL;
  last = --s->users == 0 && v->server != s;
  pthread_mutex_unlock (&v->server_lock);
  if (last)
    server_free (s);
}

/* -- Requests ------------------------------------------------------------ */

struct request {
  void *buf;                    /* or NULL: extents */
  uint64_t count, offset;
  qcow2_extent_fn fn;
  void *opaque;
};

/* Extents to ask for in one request: the client will ask for the rest. */
#define MAX_EXTENTS 256

/* If there is an error after some of them then those are the answer. */
static int
ask_extents (struct image *image, const struct request *r, struct error *e)
{
  const uint64_t end = r->offset + r->count;
  uint64_t offset, next;
  unsigned n = 0;
  bool data;

  for (offset = r->offset; offset < end && n < MAX_EXTENTS; offset = next) {
    if (image->ops->extent (image, offset, end, &next, &data, e) == -1)
      return n == 0 ? -1 : 0;
    if (r->fn (r->opaque, offset, next - offset, data) == -1) {
      e->num = 0;
      return -1;
    }
    n++;
  }
  return 0;
}

/* Let a qemu-nbd do it.  *again says that another one may fare better. */
static int
try_request (struct qcow2_view *v, const struct request *r, bool *again,
             struct error *e)
{
  struct server *s = server_get (v, e);
  int ret;

  *again = false;
  if (s == NULL)
    return -1;
  if (r->count > s->size || r->offset > s->size - r->count) {
    error_set (e, EIO, "%s: the disk is smaller now (%" PRIu64 " bytes) than "
               "when the snapshot was taken, and QEMU does not read what was "
               "beyond", v->watch.path, s->size);
    server_put (v, s, false);
    return -1;
  }
  ret = r->buf ?
    s->image->ops->pread (s->image, r->buf, r->count, r->offset, e) : /* Q1 */
    ask_extents (s->image, r, e);
  *again = ret == -1 && e->num != 0;
  server_put (v, s, *again);
  return ret;
}

static int
run_request (struct qcow2_view *v, const struct request *r, struct error *e)
{
  struct error late;
  bool again;
  int ret;

  if (atomic_load (&v->watch.gone))
    return qcow2_watch_gone (&v->watch, e);
  ret = try_request (v, r, &again, e);
  if (again)
    ret = try_request (v, r, &again, e);
  /* Whatever it gave: if the snapshot is gone, that is the answer. */
  if (qcow2_watch_check (&v->watch, &late) == -1 &&
      (ret == 0 || late.num == ESHUTDOWN)) {
    *e = late;
    return -1;
  }
  return ret;
}

int
qcow2_view_pread (struct qcow2_view *v, void *buf, size_t count,
                  uint64_t offset, struct error *e)
{
  return run_request (v, &(struct request) {
      .buf = buf, .count = count, .offset = offset
    }, e);
}

int
qcow2_view_extents (struct qcow2_view *v, uint64_t count, uint64_t offset,
                    qcow2_extent_fn fn, void *opaque, struct error *e)
{
  return run_request (v, &(struct request) {
      .count = count, .offset = offset, .fn = fn, .opaque = opaque
    }, e);
}

/* -- Opening and closing ------------------------------------------------- */

static void
view_free (struct qcow2_view *v)
{
  if (v->server)
    server_free (v->server);    /* waits for the end of qemu-nbd */
  pthread_mutex_destroy (&v->server_lock);
  qcow2_watch_close (&v->watch);
  free (v);
}

static struct qcow2_view *
view_new (const char *path, const char *name_or_id, struct error *e)
{
  struct qcow2_view *v = calloc (1, sizeof *v);

  if (v == NULL) {
    error_set_errno (e, ENOMEM, "%s", path);
    return NULL;
  }
  if (qcow2_watch_open (&v->watch, path, name_or_id, e) == -1) {
    free (v);
    return NULL;
  }
  pthread_mutex_init (&v->server_lock, NULL);
  v->refs = 1;
  return v;
}

struct qcow2_view *
qcow2_view_open (const char *path, const char *name_or_id, struct error *e)
{
  struct qcow2_view *v = view_new (path, name_or_id, e), *o;

  if (v == NULL)
    return NULL;
  pthread_mutex_lock (&views_lock);
  for (o = views; o && !qcow2_watch_same (&v->watch, &o->watch); o = o->next)
    ;
  if (o)
    o->refs++;
  else {
    v->next = views;
    views = v;
  }
  pthread_mutex_unlock (&views_lock);
  if (o == NULL)
    return v;
  view_free (v);
  return o;
}

void
qcow2_view_close (struct qcow2_view *v)
{
  struct qcow2_view **p;
  bool last;

  pthread_mutex_lock (&views_lock);
  last = --v->refs == 0;
  if (last) {
    for (p = &views; *p != v; p = &(*p)->next)
      ;
    *p = v->next;
  }
  pthread_mutex_unlock (&views_lock);
  if (last)
    view_free (v);
}

const struct qcow2_snapshot *
qcow2_view_snapshot (const struct qcow2_view *v)
{
  return v->watch.snapshot;
}

uint32_t
qcow2_view_cluster_size (const struct qcow2_view *v)
{
  return v->watch.opened.cluster_size;
}
