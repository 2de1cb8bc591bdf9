/* SPDX-License-Identifier: BSD-3-Clause */

/* What is done around a guest's change.  nbdkit's callbacks (cbw.c) call it,
 * in the guest's thread.
 */

#include <config.h>

#include <errno.h>

#include "cleanup.h"
#include "guest.h"
#include "source.h"

int
guest_prepare (struct guest *g, struct disk *disk, nbdkit_next *next)
{
  int64_t size;
  struct error e;

  {
    LOCK_FOR_SCOPE (disk->serial);
    size = next->get_size (next);
    /* The engine asks for extents, which a client may never have done. */
    if (size == -1 || next->can_extents (next) == -1)
      return -1;
  }
  g->next = next;
  g->size = (uint64_t) size;
  disk_saw (disk, g->size);
  /* If this fails the guest is served all the same, and no snapshot taken
   * (engine_check_disk).
   */
  if (disk_next (disk) != NULL && g->size != disk_size (disk) &&
      disk_look (disk, &e) == -1)
    nbdkit_error ("cbw: %s", e.msg);
  return 0;
}

/* Where old data is read in a guest's thread: through the disk's context;
 * or if that is lent, through the guest's own, which is the same disk, as far
 * as that reaches.
 */
static struct source
guest_source (const struct guest *g, struct disk *disk)
{
  return (struct source) {
    .disk = disk,
    .next = disk->backend ? NULL : g->next,
    .size = g->size,
    .serial = disk->serial,
  };
}

int
guest_begin (struct guest *g, struct engine *engine, struct disk *disk,
             struct change *c)
{
  const struct source source = guest_source (g, disk);
  int r;

  r = engine_guest_begin (engine, &source, c->offset, c->count, c->op, c->data,
                          &c->ticket);
  if (r != 0)
    return r == ETIMEDOUT ? EIO : r; /* NBD has no such error */
  r = inflight_begin (&engine->inflight, c->offset, c->count, &c->record);
  if (r != 0)
    engine_guest_end (engine, c->ticket);
  return r;
}

void
guest_end (struct guest *g, struct engine *engine, struct change *c, int err)
{
  (void) g;
  inflight_end (&engine->inflight, c->record, err);
  engine_guest_end (engine, c->ticket);
}
