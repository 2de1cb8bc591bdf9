/* SPDX-License-Identifier: BSD-3-Clause */

/* Starting to serve a segment: what is there is taken up, what is asked for is
 * made.  The end is in server-stop.c.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "below/log.h"
#include "below/patience.h"
#include "guest/suspects.h"
#include "image/nbd/nbd.h"
#include "lifecycle/access.h"
#include "lifecycle/cool.h"
#include "lifecycle/lifecycle.h"
#include "lifecycle/takeover-points.h"
#include "segment/segment-server.h"
#include "segment/entry.h"
#include "server.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

/* What can be told of an NBD server without the disk. */
static int
probe_nbd (const char *target, struct error *e)
{
  struct image *image;
  uint64_t size;

  image = image_nbd_open (target, 0, &size, e);
  if (image == NULL)
    return -1;
  image->ops->close (image);
  return 0;
}

/* A target that exists must be empty, unless a snapshot in the segment
 * owns it.  Without a segment none does.
 */
static int
probe_target (const struct params *p, struct error *e)
{
  CLEANUP_FREE char *dir = strdup (p->target);
  struct stat st;

  if (dir == NULL)
    return error_set_errno (e, ENOMEM, "%s", p->target);
  if (image_nbd_is_name (p->target))
    return access (p->shm, F_OK) == -1 ? probe_nbd (p->target, e) : 0;
  strrchr (dir, '/')[1] = '\0';
  if (access (dir, W_OK | X_OK) == -1)
    return error_set_errno (e, errno, "%s: cannot make a target in %s",
                            p->target, dir);
  if (access (p->shm, F_OK) == -1 && stat (p->target, &st) == 0 &&
      (!S_ISREG (st.st_mode) || st.st_size > 0))
    return error_set (e, EEXIST, "%s: exists and is not empty, and is no "
                      "snapshot's target; choose another file, or if it is "
                      "left from an earlier snapshot, remove it", p->target);
  return 0;
}

static int
refuse_memory (const struct params *p, struct error *e)
{
  return error_set (e, EINVAL, "%s: is in memory, which the host forgets when "
                    "it goes down; with cbw-durable=on give cbw-shm= a file on "
                    "a disk", p->shm);
}

int
server_probe (const struct params *p)
{
  struct error e;

  if (segment_probe (p->shm, &e) == -1 ||
      (p->durable && segment_path_is_volatile (p->shm) &&
       refuse_memory (p, &e) == -1) ||
      (p->target && probe_target (p, &e) == -1) ||
      (p->access && access_check (p->access, &e) == -1)) {
    nbdkit_error ("cbw: %s", e.msg);
    return -1;
  }
  return 0;
}

/* Does the segment that we took over fit the disk and the parameters? */
static int
check_geometry (const struct segment *seg, const struct params *p,
                uint64_t disk_size, struct error *e)
{
  const struct cbw_geometry *g = &seg->map.geometry;

  if (p->cluster_size != 0 && p->cluster_size != g->cluster_size)
    return error_set (e, EINVAL, "%s: was made with cbw-cluster-size=%" PRIu32
                      ", not %" PRIu32 "; give that size, or none, or end its "
                      "snapshots by removing the segment", seg->path,
                      g->cluster_size, p->cluster_size);
  if (p->writeback != 0 && p->writeback / g->cluster_size != g->nr_cells)
    return error_set (e, EINVAL, "%s: was made with cbw-writeback=%" PRIu64
                      ", not %" PRIu64 "; give that, or none, or end its "
                      "snapshots by removing the segment", seg->path,
                      (uint64_t) g->nr_cells * g->cluster_size, p->writeback);
  if (disk_size < g->disk_size)
    return error_set (e, EINVAL, "%s: was made for a disk of %" PRIu64
                      " bytes, and this one has only %" PRIu64
                      "; is it the right disk?  If so, end its snapshots by "
                      "removing the segment", seg->path, g->disk_size,
                      disk_size);
  return 0;
}

/* Does the segment already hold the snapshot that cbw-target= and
 * cbw-snapshot= ask for?  1 yes, 0 no and it may be made, -1 error.
 */
static int
find_wanted (struct server *s, const struct params *p, struct error *e)
{
  struct cbw_snapshot copy;
  struct snapshot_info info;

  /* A complete backup is none any more; its name may be used again. */
  if (!entry_find (&s->segment.map, p->snapshot, &info) || info.complete ||
      !entry_copy (&s->segment.map, info.index, &copy))
    return 0;
  if (strcmp (copy.target, p->target) != 0)
    return error_set (e, EEXIST, "%s: the target of snapshot \"%s\" is %s, "
                      "not %s; give that to continue with it, or "
                      "choose another segment", s->segment.path, copy.name,
                      copy.target, p->target);
  return 1;
}

static int
make_wanted (struct server *s, const struct params *p, uint64_t disk_size,
             struct error *e)
{
  struct create_params cp = {
    .name = p->snapshot,
    .target = p->target,
    .access = p->access,
    .options = p->options,
  };
  uint64_t held_ns;

  if (getrandom (cp.uuid, sizeof cp.uuid, 0) != sizeof cp.uuid)
    return error_set_errno (e, errno, "getrandom");
  return create_snapshot (&s->engine, &s->segment, &cp, disk_size, &held_ns,
                          e);
}

/* What guests' changes an earlier server left under way, and that a successor
 * is to know the same of this one.
 */
static int
take_inflight (struct server *s, bool local, struct error *e)
{
  struct cbw_header *h = map_header (&s->segment.map);

  inflight_attach (&s->engine.inflight, &s->segment.map, h->source_local == 1,
                   local);
  h->source_local = local;
  return suspects_preserve (&s->engine, e);
}

/* What a successor can rely on; written to disk by segment_begin. */
static void
keep_promises (const struct segment *segment, const struct params *p,
               const struct source_info *info)
{
  struct cbw_header *h = map_header (&segment->map);

  if (p->track)
    h->compat |= CBW_COMPAT_TRACKED;
  else
    h->compat &= ~CBW_COMPAT_TRACKED;
  h->durable = p->durable;
  h->source_kept = info->kept;
}

/* Bring back what an earlier server left, and have the snapshot that is
 * asked for.
 */
static int
prepare_snapshots (struct server *s, const struct params *p,
                   const struct source_info *info, struct error *e)
{
  const uint64_t disk_size = info->size;
  int there = 1;

  if (!s->segment.fresh &&
      (check_geometry (&s->segment, p, disk_size, e) == -1 ||
       takeover_snapshots (&s->engine, &s->segment, disk_size, e) == -1))
    return -1;
  if (p->target && (there = find_wanted (s, p, e)) == -1)
    return -1;

  cool_start (&s->engine, takeover_lost (&s->segment));
  keep_promises (&s->segment, p, info);
  /* From here on clients are served from the segment, and guests change the
   * disk.  The buffer comes first: a new snapshot must find nothing in it.
   */
  if (segment_begin (&s->segment, e) == -1 ||
      (p->durable && image_raw_sync_directory (s->segment.path, e) == -1))
    return -1;
  cool_begin (&s->engine);
  if (writeback_start (&s->engine.writeback, e) == -1 ||
      take_inflight (s, info->local, e) == -1 ||
      (!there && make_wanted (s, p, disk_size, e) == -1))
    return -1;
  return takeover_backups (&s->engine, e);
}

/* Small clusters copy little around a guest's small writes, and cost memory:
 * as small as this many of them allow, but no larger than 64k.  bench/
 * measures it ("clusters").
 */
#define DEFAULT_CLUSTERS_MAX (UINT64_C (16) << 20) /* 6 MiB a snapshot */
#define DEFAULT_CLUSTER_SIZE_MAX (64 * 1024)

static uint32_t
default_cluster_size (const struct source_info *info)
{
  uint32_t size = CBW_CLUSTER_SIZE_MIN;

  while (size < DEFAULT_CLUSTER_SIZE_MAX &&
         (info->size / size > DEFAULT_CLUSTERS_MAX ||
          size < info->minimum_block))
    size *= 2;
  return size;
}

/* Take or make the segment. */
static int
serve_segment (struct server *s, const struct params *p,
               const struct source_info *info, struct error *e)
{
  const uint32_t cs = p->cluster_size ? p->cluster_size :
    default_cluster_size (info);

  if (p->writeback != 0 && p->writeback / cs < CBW_CELLS_MIN)
    return error_set (e, EINVAL, "cbw-writeback=%" PRIu64 ": must have room "
                      "for %d clusters, of %" PRIu32 " bytes each",
                      p->writeback, CBW_CELLS_MIN, cs);
  if (segment_serve (&s->segment, p->shm, info->size, cs,
                     (uint32_t) (p->writeback / cs), e) == -1)
    return -1;
  if (!p->durable || !segment_is_volatile (&s->segment))
    return 0;
  refuse_memory (p, e);
  segment_close (&s->segment, s->segment.fresh);
  return -1;
}

/* The server does not start: wait for the threads that it has already.
 * Returns false if one is stuck, which uses all of it.
 */
static bool
join_threads (struct server *s)
{
  const uint64_t until = now_monotonic_ns () + patience_at_stop_ns ();
  bool ended = service_join (&s->service, until);

  ended = engine_join (&s->engine, until) && ended;
  if (!ended) {
    service_leave (&s->service);
    engine_leave (&s->engine);
  }
  return ended;
}

/* Without it clients that could read by themselves ask the service instead. */
static void
start_alive (struct server *s)
{
  const int r = alive_start (&s->alive);

  if (r != 0) {
    errno = r;
    log_debug ("cbw: clients cannot see that the server is alive: %m");
  }
}

/* S5: what clients were told of the disk's file holds no more. */
static void
file_lost (void *opaque)
{
  struct engine *engine = opaque;

  generation_bump (&engine->generation);
}

int
server_start (struct server *s, const struct params *p,
              const struct source *source, const struct source_info *info)
{
  struct cbw_header *h;
  struct error e;

  s->segment = (struct segment) SEGMENT_INIT;
  if (serve_segment (s, p, info, &e) == -1) {
    nbdkit_error ("cbw: %s", e.msg);
    return -1;
  }
  engine_init (&s->engine);
  engine_set_source (&s->engine, source);
  s->service = (struct service) {
    .engine = &s->engine,
    .segment = &s->segment,
    .source = *source,
    .info = *info,
  };
  service_init (&s->service, p->threads);
  alive_init (&s->alive, &map_header (&s->segment.map)->alive);
  table_attach (&s->engine.table, map_snapshot (&s->segment.map, 0));
  generation_attach (&s->engine.generation,
                     &map_header (&s->segment.map)->chain_generation);
  copier_attach (&s->engine.copier,
                 &map_header (&s->segment.map)->unchanged_claims);
  points_attach (&s->engine.points, &s->segment, &s->engine.generation,
                 p->track, p->durable);
  s->engine.commands = (struct command_policy) {
    .allowed = p->commands, .target = p->target
  };
  if ((p->track &&
       hot_attach (&s->engine.hot, &s->segment, &s->engine.points, p->durable,
                   info->kept, &e) == -1) ||
      writeback_attach (&s->engine.writeback, &s->segment.map,
                        p->writeback != 0, &e) == -1 ||
      prepare_snapshots (s, p, info, &e) == -1) {
    nbdkit_error ("cbw: %s", e.msg);
    goto fail;
  }

  h = map_header (&s->segment.map);
  h->source_minimum_block = info->minimum_block;
  h->source_preferred_block = info->preferred_block;
  h->source_maximum_block = info->maximum_block;
  disk_on_file_lost (source->disk, file_lost, &s->engine);
  if (service_start (&s->service) == -1) {
    service_stop (&s->service);
    goto fail;
  }
  start_alive (s);
  segment_publish (&s->segment);
  return 0;

 fail:
  engine_stop (&s->engine);
  if (!join_threads (s))
    return -1;
  alive_free (&s->alive);
  disk_on_file_lost (source->disk, NULL, NULL);
  service_free (&s->service);
  engine_free (&s->engine);
  segment_close (&s->segment, s->segment.fresh);
  return -1;
}
