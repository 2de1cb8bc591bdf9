/* SPDX-License-Identifier: BSD-3-Clause */

/* Opening what a snapshot is read from, as the filter's reply names it.
 *
 * The filter is asked twice: it looks for write-back errors when it replies,
 * and those that it is told of later are also told to the files which were
 * opened after the first reply (docs/correctness.md, section 23).
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "direct-chain.h"
#include "request/request.h"
#include "utils/cleanup.h"

/* A target: what is still in the write-back buffer is not there. */
struct direct_target {
  struct image image;
  struct image *file;
  const _Atomic (uint64_t) *cells;
  _Atomic (uint64_t) *lost;     /* in the segment, for the next server */
  uint64_t id;                  /* of the snapshot */
};

struct direct_view {
  struct view view;
  struct direct_target target;
  size_t mapped;                /* bytes of each bitmap */
};

/* ---- Targets ---- */

/* Are all clusters that are done in the target?  The caller has looked at
 * their bits before.
 */
static int
check_cells (const struct direct_target *t, struct error *e)
{
  return atomic_load_explicit (t->cells, memory_order_acquire) == 0 ? 0 :
    error_set (e, EAGAIN, "some of it is in the write-back buffer");
}

static int
target_pread (struct image *image, void *buf, size_t count, uint64_t offset,
              struct error *e)
{
  const struct direct_target *t = (const struct direct_target *) image;

  return check_cells (t, e) == -1 ? -1 :
    t->file->ops->pread (t->file, buf, count, offset, e);
}

static int
target_extent (struct image *image, uint64_t offset, uint64_t end,
               uint64_t *next, bool *data, struct error *e)
{
  const struct direct_target *t = (const struct direct_target *) image;

  return check_cells (t, e) == -1 ? -1 :
    t->file->ops->extent (t->file, offset, end, next, data, e);
}

/* The kernel tells each open file of a write-back error, but not one that is
 * opened after somebody was told.
 */
static int
target_verify (struct image *image, struct error *e)
{
  const struct direct_target *t = (const struct direct_target *) image;

  if (image_verify (t->file, e) == 0)
    return 0;
  if (e->num != ESTALE)         /* that is: it has another length */
    atomic_store (t->lost, t->id);
  return -1;
}

static const struct image_ops target_ops = {
  .pread = target_pread,
  .extent = target_extent,
  .verify = target_verify,
};

/* ---- Files ---- */

static bool
is_file (const struct cbw_direct_file *f, const struct stat *st)
{
  return st->st_dev == f->device && st->st_ino == f->inode &&
    st->st_rdev == f->rdev;
}

/* Open the path if it leads to that file: -1 if not. */
static int
open_at (const struct cbw_direct_file *f, const char *path)
{
  struct stat st;
  int fd;

  if (stat (path, &st) == -1 || !is_file (f, &st))
    return -1;
  /* A target that is just being replaced is leased: do not wait for it. */
  fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd == -1 || (fstat (fd, &st) == 0 && is_file (f, &st)))
    return fd;
  close (fd);
  return -1;
}

/* Does it belong to the half of all descriptors that is left alone?  nbdkit
 * needs one for each client, and accepts none when there are no more.
 */
static bool
is_scarce (int fd)
{
  struct rlimit r;

  return getrlimit (RLIMIT_NOFILE, &r) == 0 && (rlim_t) fd >= r.rlim_cur / 2;
}

/* The server's descriptor leads to the file wherever it is, if this process
 * may look at the server's; the path, if it is the same here.
 */
static struct image *
open_file (const struct cbw_direct_file *f, uint32_t pid, uint64_t size,
           enum image_reader_kind kind, struct error *e)
{
  CLEANUP_CLOSE int fd = -1;
  char of_server[64];

  error_set_errno (e, ENOMEM, "%s", f->path); /* unless it is another */
  if (f->kind == 0)
    return image_missing_new ("it is not a local file");
  snprintf (of_server, sizeof of_server, "/proc/%" PRIu32 "/fd/%" PRIu32, pid,
            f->fd);
  fd = open_at (f, of_server);
  if (fd == -1)
    fd = open_at (f, f->path);
  if (fd == -1) {
    error_set (e, EACCES, "%s: cannot be opened from here", f->path);
    return NULL;
  }
  if (is_scarce (fd)) {
    error_set (e, EMFILE, "this process has half as many files open as it may");
    return NULL;
  }
  return image_reader_open (&fd, f->path, size, kind, e);
}

/* ---- The reply ---- */

/* Is the reply one that can be used, for a segment of file_size bytes? */
static bool
is_good (const struct cbw_direct *d, const struct cbw_geometry *g,
         uint64_t file_size, uint64_t id)
{
  const struct cbw_direct_view *v;
  unsigned i;

  if (d->nr_views < 1 || d->nr_views > CBW_NR_SNAPSHOTS ||
      d->views[0].id != id || d->source.kind == 0 ||
      g->bitmap_size > file_size)
    return false;
  for (i = 0; i < d->nr_views; ++i) {
    v = &d->views[i];
    if (v->index >= CBW_NR_SNAPSHOTS || v->size == 0 ||
        !layout_has_room (g, v->size) ||
        v->size < d->views[0].size ||
        v->access_offset % CBW_PAGE != 0 || v->done_offset % CBW_PAGE != 0 ||
        v->access_offset > file_size - g->bitmap_size ||
        v->done_offset > file_size - g->bitmap_size)
      return false;
  }
  return true;
}

/* A target that cannot be read here is one that fails: what is there is read
 * through the filter, and the rest directly.
 */
static struct image *
open_target (const struct cbw_direct_view *v, uint32_t pid, struct error *e)
{
  struct image *file = open_file (&v->target, pid, v->size,
                                  IMAGE_READER_TARGET, e);

  return file == NULL && (e->num == ENOTSUP || e->num == EACCES) ?
    image_missing_new (e->msg) : file;
}

static int
map_one (const struct direct_chain *c, uint64_t offset, size_t size,
         uint64_t nbits, struct bitmap *b, struct error *e)
{
  void *words = mmap (NULL, size, PROT_READ, MAP_SHARED,
                      c->client->segment.fd, (off_t) offset);

  if (words == MAP_FAILED)
    return error_set_errno (e, errno, "%s: cannot map a bitmap",
                            c->client->segment.path);
  *b = (struct bitmap) { .words = words, .nbits = nbits };
  return 0;
}

static int
open_view (struct direct_chain *c, struct direct_view *m,
           const struct cbw_direct_view *v, uint32_t pid, struct error *e)
{
  const struct cbw_map *map = &c->client->segment.map;
  const struct cbw_snapshot *entry = map_snapshot (map, v->index);
  const uint64_t nbits = layout_clusters (&map->geometry, v->size);

  m->mapped = map->geometry.bitmap_size;
  m->view = (struct view) {
    .id = v->id,
    .size = v->size,
    .cluster_size = map->geometry.cluster_size,
    .state = &entry->state,
    .store = &m->target.image,
  };
  m->target.image.ops = &target_ops;
  m->target.cells = &entry->cells;
  m->target.lost = map_lost_target (map, v->index);
  m->target.id = v->id;
  m->target.file = open_target (v, pid, e);
  return m->target.file == NULL ||
    map_one (c, v->access_offset, m->mapped, nbits, &m->view.access,
             e) == -1 ||
    map_one (c, v->done_offset, m->mapped, nbits, &m->view.done, e) == -1 ?
    -1 : 0;
}

static int
open_all (struct direct_chain *c, const struct cbw_direct *d, struct error *e)
{
  unsigned i;

  c->source = open_file (&d->source, d->pid, d->views[0].size,
                         IMAGE_READER_SOURCE, e);
  c->members = calloc (d->nr_views, sizeof *c->members);
  if (c->members == NULL)
    return error_set_errno (e, ENOMEM, "chain");
  if (c->source == NULL)
    return -1;
  for (i = 0; i < d->nr_views; ++i) {
    c->views.views[c->views.len++] = &c->members[i].view;
    if (open_view (c, &c->members[i], &d->views[i], d->pid, e) == -1)
      return -1;
  }
  return 0;
}

static int
ask (struct client *client, uint64_t id, struct cbw_direct *reply,
     struct error *e)
{
  const int r = request_direct (client, id, reply);

  return r == 0 ? 0 : error_set (e, r, r == ENOTSUP || r == EINVAL ?
                                 "the filter does not offer it" :
                                 "the filter could not say how");
}

/* Open what the reply names, and see that it is still what the filter says. */
static int
open_twice_asked (struct direct_chain *c, uint64_t id,
                  struct cbw_direct replies[2], struct error *e)
{
  struct stat st;

  if (ask (c->client, id, &replies[0], e) == -1)
    return -1;
  if (fstat (c->client->segment.fd, &st) == -1)
    return error_set_errno (e, errno, "%s: fstat", c->client->segment.path);
  if (!is_good (&replies[0], &c->client->segment.map.geometry,
                (uint64_t) st.st_size, id))
    return error_set (e, EBADMSG, "the filter's reply makes no sense");
  if (replies[0].generation != c->generation)
    return error_set (e, EAGAIN, "the chain has changed");
  if (open_all (c, &replies[0], e) == -1 ||
      ask (c->client, id, &replies[1], e) == -1)
    return -1;
  if (memcmp (&replies[0], &replies[1], sizeof replies[0]) != 0)
    return error_set (e, EAGAIN, "the chain has changed");
  return 0;
}

struct direct_chain *
direct_chain_open (struct client *client, uint64_t id, struct error *e)
{
  const struct cbw_header *h = map_header (&client->segment.map);
  CLEANUP_FREE struct cbw_direct *replies = calloc (2, sizeof *replies);
  struct direct_chain *c = calloc (1, sizeof *c);

  if (replies == NULL || c == NULL) {
    free (c);
    error_set_errno (e, ENOMEM, "chain");
    return NULL;
  }
  c->client = client;
  c->alive = atomic_load (&h->alive);
  c->generation = atomic_load (&h->chain_generation);
  if (c->alive == 0 || (c->alive & CBW_ALIVE_DIED))
    error_set (e, ENOTSUP, "the filter does not say whether it is alive");
  else if (c->generation % 2 != 0)
    error_set (e, EAGAIN, "the chain is changing");
  else if (open_twice_asked (c, id, replies, e) == 0)
    return c;
  direct_chain_close (c);
  return NULL;
}

static void
close_view (struct direct_view *m)
{
  if (m->view.access.words)
    munmap (m->view.access.words, m->mapped);
  if (m->view.done.words)
    munmap (m->view.done.words, m->mapped);
  if (m->target.file)
    m->target.file->ops->close (m->target.file);
}

void
direct_chain_close (struct direct_chain *c)
{
  size_t i;

  for (i = 0; i < c->views.len; ++i)
    close_view (&c->members[i]);
  if (c->source)
    c->source->ops->close (c->source);
  free (c->members);
  free (c);
}

bool
direct_chain_is_current (const struct direct_chain *c)
{
  const struct cbw_header *h = map_header (&c->client->segment.map);

  /* Pairs with the fences in generation.c: what was seen before, of the table,
   * the bitmaps or the files, is no later than what these words say.
   */
  atomic_thread_fence (memory_order_acquire);
  return atomic_load_explicit (&h->alive, memory_order_acquire) == c->alive &&
    atomic_load_explicit (&h->chain_generation, memory_order_acquire) ==
    c->generation;
}
