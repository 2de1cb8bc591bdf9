/* SPDX-License-Identifier: BSD-3-Clause */

/* Describing a chain of snapshots to a client that reads it without asking.
 * A service thread calls this.
 *
 * The reply is of one generation of the chain (docs/correctness.md, section
 * 24).  All that is in it is the server's own, and nothing that was read in
 * the segment.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "below/log.h"
#include "service/serve-direct.h"
#include "view/read.h"

static void
describe_file (struct cbw_direct_file *f, int fd, const char *path)
{
  const size_t len = strlen (path);
  struct stat st;

  if (fstat (fd, &st) == -1)
    return;
  f->kind = 1;
  f->fd = (uint32_t) fd;
  f->device = st.st_dev;
  f->inode = st.st_ino;
  f->rdev = st.st_rdev;
  if (len < sizeof f->path)
    memcpy (f->path, path, len);
}

static void
describe_source (struct cbw_direct_file *f, const struct source_file *file)
{
  char path[sizeof f->path];

  source_file_path (file, path, sizeof path);
  describe_file (f, file->fd, path);
}

/* A client must not open what is lost: the kernel has told this process of the
 * error, and may not tell another.
 */
static void
describe_target (struct cbw_direct_file *f, struct image *target)
{
  const char *path;
  struct error e;
  int fd;

  if (!image_is_raw (target) || !image_raw_is_coherent (target))
    return;
  if (target->ops->check (target, &e) == -1) {
    log_debug ("cbw: no client may read it itself: %s", e.msg);
    return;
  }
  fd = image_raw_fd (target, &path);
  describe_file (f, fd, path);
}

static void
describe_view (const struct cbw_map *m, const struct snapshot *snap,
               struct cbw_direct_view *v)
{
  const unsigned i = map_snapshot_index (m, snap->entry);

  v->id = snap->view.id;
  v->size = snap->view.size;
  v->index = i;
  v->access_offset = m->bitmaps[i][CBW_BITMAP_ACCESS];
  v->done_offset = m->bitmaps[i][CBW_BITMAP_DONE];
  describe_target (&v->target, snap->target);
}

/* From snapshot k on. */
static void
describe_chain (const struct cbw_map *m, const struct chain *chain, size_t k,
                struct cbw_direct *reply)
{
  uint32_t nr = 0;

  for (; k < chain->len; ++k)
    if (!snapshot_is_backup (chain->snaps[k]))
      describe_view (m, chain->snaps[k], &reply->views[nr++]);
  reply->nr_views = nr;
}

int
serve_direct (struct engine *e, const struct cbw_map *m,
              const struct disk *disk, uint64_t id, struct cbw_direct *reply)
{
  const uint64_t generation = generation_value (&e->generation);    /* S6 */
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&e->chain);
  const int k = chain_find (chain, id);
  int r;

  if (k == -1)
    return ESHUTDOWN;
  if (disk == NULL || disk->file.kept || !source_file_is_known (&disk->file) ||
      snapshot_is_backup (chain->snaps[k]))
    return ENOTSUP;
  r = view_end (&chain->views, (size_t) k);
  if (r != 0)
    return r;
  memset (reply, 0, sizeof *reply);
  reply->generation = generation;
  reply->pid = (uint32_t) getpid ();
  describe_source (&reply->source, &disk->file);
  describe_chain (m, chain, (size_t) k, reply);                     /* S7 */
  return generation % 2 != 0 ||
    generation_value (&e->generation) != generation ? EAGAIN : 0;   /* S8 */
}
