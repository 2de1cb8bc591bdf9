/* SPDX-License-Identifier: BSD-3-Clause */

/* The end of a server, when its guests are gone.
 *
 * There is one deadline for all of it, but for the disk's opener (disk.h), which
 * has one of its own.  What has not ended by then is left behind, and nothing
 * that it may use is freed; the server's lock stays until the process is gone,
 * so that no successor begins beside it, and the segment is not marked as left
 * in order.
 */

#include <config.h>

#include <inttypes.h>

#include <nbdkit-filter.h>

#include "below/identity.h"
#include "image/nbd/nbd.h"
#include "lifecycle/cool.h"
#include "lifecycle/flush.h"
#include "segment/segment-server.h"
#include "segment/slots.h"
#include "server.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* The least that is waited, so that threads which do end have time to. */
#define PATIENCE_MIN (NS_PER_SEC / 2)

/* Something has not ended.  What waits for an NBD server is made to fail: in
 * the chain, or about to be opened or closed.  Nothing that can be flushed is
 * to be flushed any more.
 */
static void
give_up_targets (struct engine *engine)
{
  CLEANUP_CHAIN_PUT struct chain *chain = chain_get (&engine->chain);
  const struct snapshot *snap;
  size_t i;

  for (i = 0; chain && i < chain->len; ++i) {
    snap = chain->snaps[i];
    if (snap->fixed.target_kind == CBW_TARGET_NBD &&
        !image_is_missing (snap->target))
      nbdkit_error ("cbw: snapshot \"%s\": this server has to end; its target, "
                    "an NBD server, may be what it has waited for",
                    snap->fixed.name);
  }
  image_nbd_interrupt_all ();
}

/* Time is up.  Nothing is freed that they use. */
static void
leave_threads (struct server *s)
{
  service_leave (&s->service);
  engine_leave (&s->engine);
}

/* The disk, if somebody relies on it to be on stable storage. */
static struct image *
disk_to_flush (struct engine *engine)
{
  return engine->hot.on || points_newest (&engine->points) != 0 ?
    &engine->source.image : NULL;
}

/* Nothing is hot any more, and this is how the disk was. */
static void
leave_points (struct server *s)
{
  cool_stop (&s->engine);
  map_header (&s->segment.map)->source =
    identity_of (&s->service.source.disk->file);
}

void
server_stop (struct server *s)
{
  service_stop (&s->service);
  engine_stop (&s->engine);
}

bool
server_join (struct server *s, uint64_t until)
{
  const uint64_t now = now_monotonic_ns ();
  const uint64_t patience = max_u64 (time_left (until), PATIENCE_MIN);
  struct flush *flush;
  bool read, written, flushed, ended;

  until = now + patience;
  /* Some time is for the flush, whatever hangs; and for what ends only when
   * its target is given up.
   */
  written = engine_join (&s->engine, now + patience * 3 / 5);
  read = service_join (&s->service, now + patience * 3 / 5);
  flush = flush_start (&s->engine.chain, disk_to_flush (&s->engine));
  if (!flush_join (flush, until - patience / 8) || !read || !written)
    give_up_targets (&s->engine);
  ended = service_join (&s->service, until);
  ended = engine_join (&s->engine, until) && ended;
  flushed = flush_join (flush, until);
  ended = flushed && ended;
  if (!ended)
    leave_threads (s);
  /* What was written while they were flushed may not have been. */
  s->in_order = flush_known (flush) && written && read;
  if (flushed)
    flush_free (flush);
  else
    flush_leave (flush);
  if (!ended)
    slots_wake_all (&s->segment.map);
  return ended;
}

void
server_free (struct server *s)
{
  struct error e;

  /* Before others may serve the disk, or write to it. */
  alive_stop (&s->alive);
  alive_join (&s->alive, UINT64_MAX);
  alive_free (&s->alive);
  if (s->in_order)
    leave_points (s);
  /* The opener may be in the plugin's open still. */
  disk_on_file_lost (s->service.source.disk, NULL, NULL);
  service_free (&s->service);
  /* The targets first: a successor must find them unlocked. */
  engine_free (&s->engine);
  if (!s->in_order)
    slots_wake_all (&s->segment.map);
  else if (segment_stop (&s->segment, &e) == -1)
    nbdkit_error ("cbw: %s", e.msg);
  segment_close (&s->segment, false);
}
