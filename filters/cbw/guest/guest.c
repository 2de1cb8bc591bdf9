/* SPDX-License-Identifier: BSD-3-Clause */

/* What is done around a guest's change.  nbdkit's callbacks (cbw.c) call it,
 * in the guest's thread.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "below/log.h"
#include "below/source.h"
#include "guest/guest.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* How much of a write is looked at. */
#define PROOF_SIZE 4096

/* Ask the context.  0, or -1 after nbdkit_error. */
static int
describe (struct guest *g, nbdkit_next *next)
{
  const int64_t size = next->get_size (next);
  const int multi_conn = next->can_multi_conn (next);
  uint32_t preferred, maximum;

  /* The engine asks for extents, which a client may never have done. */
  if (size == -1 || multi_conn == -1 || next->can_extents (next) == -1 ||
      next->block_size (next, &g->minimum_block, &preferred, &maximum) == -1)
    return -1;
  g->next = next;
  g->size = (uint64_t) size;
  atomic_init (&g->proven, multi_conn == 1);
  return 0;
}

int
guest_prepare (struct guest *g, struct disk *disk, nbdkit_next *next)
{
  struct error e;
  int r;

  {
    LOCK_FOR_SCOPE (disk->serial);
    r = describe (g, next);
  }
  if (r == -1)
    return -1;
  disk_saw (disk, g->size);
  if (disk_next (disk) == NULL || g->size == disk_size (disk))
    return 0;
  /* If this fails the guest is served all the same, and no snapshot taken
   * (cut.h).
   */
  if (disk_look (disk, &e) == -1) {
    log_error ("cbw: %s", e.msg);
    return 0;
  }
  if (disk->backend == NULL || g->size == disk_size (disk) || g->proven)
    return 0;
  log_error ("cbw: this connection has a disk of %" PRIu64 " bytes, and "
             "another at the same time has one of %" PRIu64 "; if it was "
             "resized just now, connect again; if not the plugin gives each "
             "connection a disk of its own, and cannot be protected",
             g->size, disk_size (disk));
  return -1;
}

/* Where old data is read in a guest's thread: through the disk's context;
 * or if that is lent, through the guest's own, which is the same disk, as far
 * as that reaches.
 */
static struct source
guest_source (const struct guest *g, struct disk *disk)
{
  return source_of_context (disk->backend ? NULL : g->next, g->size, disk,
                            disk->serial);
}

/* Snapshots would be, and are, of another disk than this guest has. */
static void
guest_is_apart (struct engine *engine, struct disk *disk, uint64_t offset)
{
  if (!atomic_exchange (&disk->apart, true))
    log_error ("cbw: this plugin gives each connection a disk (or a cache) "
               "of its own: no snapshot can be taken of a guest's disk "
               "(what it wrote at offset %" PRIu64 " is not there for "
               "another connection)", offset);
  engine_lose_source (engine, offset, "the plugin gives each connection a disk "
                      "of its own, so it is not of the disk that a guest has");
}

/* Can this change prove that the guest's disk is the one that is read? */
static void
begin_proof (const struct guest *g, struct disk *disk, struct change *c)
{
  struct source source = source_of_disk (disk);
  const uint32_t count = (uint32_t)
    min_u64 (c->count, max_u64 (PROOF_SIZE, g->minimum_block));

  c->proof.before = NULL;
  if (!atomic_load_explicit (&g->proven, memory_order_relaxed) &&
      c->op == GUEST_WRITE && disk_next (disk) != g->next &&
      c->offset + count <= disk_size (disk))
    proof_begin (&c->proof, &source.image, c->offset, count, c->data);
}

static void
end_proof (struct guest *g, struct engine *engine, struct disk *disk,
           struct change *c, bool failed)
{
  struct source source = source_of_disk (disk);
  struct source own = source_of_context (g->next, g->size, NULL,
                                         disk->serial);

  if (c->proof.before == NULL)
    return;
  switch (proof_end (&c->proof, &source.image, &own.image, c->offset, c->data,
                     failed)) {
  case PROOF_ONE_DISK:
    atomic_store (&g->proven, true);
    break;
  case PROOF_APART:
    guest_is_apart (engine, disk, c->offset);
    break;
  case PROOF_NONE:
    break;
  }
}

int
guest_begin (struct guest *g, struct engine *engine, struct disk *disk,
             struct change *c)
{
  int r;

  c->source = guest_source (g, disk);
  r = engine_guest_begin (engine, &c->source.image, c->offset, c->count, c->op,
                          c->data, &c->change);
  if (r != 0)
    return r == ETIMEDOUT ? EIO : r; /* NBD has no such error */
  r = inflight_begin (&engine->inflight, c->offset, c->count, &c->record);
  if (r == 0)
    begin_proof (g, disk, c);
  else
    engine_guest_end (engine, &c->change, false);
  return r;
}

void
guest_end (struct guest *g, struct engine *engine, struct disk *disk,
           struct change *c, int err)
{
  inflight_end (&engine->inflight, c->record, err);
  end_proof (g, engine, disk, c, err != 0);
  engine_guest_end (engine, &c->change, err != 0);
}
