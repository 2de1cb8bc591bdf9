/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <signal.h>

#include "model-oracle.h"
#include "request/control.h"
#include "segment/entry.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

struct model model;

const struct cbw_map *
map (void)
{
  return &model.patient.segment.map;
}

/* ---- The guest ---- */

void
guest_connect (void)
{
  if (model.guest)
    nbd_close (model.guest);
  model.guest = live_connect (&model.filter, "");
  REQUIRE (model.guest != NULL, "the guest: %s", nbd_get_error ());
  REQUIRE (nbd_get_size (model.guest) == (int64_t) model.size,
           "the disk's size is %" PRIi64, nbd_get_size (model.guest));
}

void
read_disk (void *to, uint64_t count, uint64_t offset)
{
  REQUIRE (nbd_pread (model.guest, to, count, offset, 0) == 0,
           "reading the disk: %s", nbd_get_error ());
}

/* The change was not acknowledged, or is a trim, which promises nothing:
 * each byte is the one or the other.
 */
static void
adopt (const struct change *c)
{
  unsigned char *old = model.disk + c->offset;
  uint64_t i;

  read_disk (model.buf, c->count, c->offset);
  for (i = 0; i < c->count; ++i)
    REQUIRE (model.buf[i] == old[i] || model.buf[i] == c->data[i],
             "byte %" PRIu64 " of the disk is %02x, neither %02x nor %02x",
             c->offset + i, model.buf[i], old[i], c->data[i]);
  memcpy (old, model.buf, c->count);
}

void
apply (struct change *c)
{
  moment_count (c->offset, c->count);
  if (c->acknowledged && c->op != TRIM)
    memcpy (model.disk + c->offset, c->data, c->count);
  else
    adopt (c);
  free (c->data);
}

/* ---- Reading ---- */

void
snap_disconnect (struct snap *s)
{
  if (s->nbd)
    nbd_close (s->nbd);
  s->nbd = NULL;
}

void
snap_connect (struct snap *s)
{
  if (s->nbd)
    return;
  s->nbd = live_connect (&model.plugin, s->name);
  REQUIRE (s->nbd != NULL, "%s: %s", s->name, nbd_get_error ());
  REQUIRE (nbd_get_size (s->nbd) == (int64_t) model.size,
           "%s: its size is %" PRIi64, s->name, nbd_get_size (s->nbd));
}

void
snap_read (struct snap *s, uint64_t count, uint64_t offset)
{
  snap_connect (s);
  REQUIRE (nbd_pread (s->nbd, model.buf, count, offset, 0) == 0, "%s: %s",
           s->name, nbd_get_error ());
  model.reads++;
}

void
compare (struct snap *s, uint64_t count, uint64_t offset)
{
  uint64_t i;

  snap_read (s, count, offset);
  for (i = 0; i < count; ++i)
    REQUIRE (model.buf[i] == s->at.data[offset + i], "%s: byte %" PRIu64
             " is %02x, not %02x (read of %" PRIu64 " at %" PRIu64 ")",
             s->name, offset + i, model.buf[i], s->at.data[offset + i], count,
             offset);
}

void
compare_all (void)
{
  unsigned i;

  for (i = 0; i < model.nr_snaps; ++i)
    compare (&model.snaps[i], model.size, 0);
  read_disk (model.buf, model.size, 0);
  REQUIRE (memcmp (model.buf, model.disk, model.size) == 0,
           "the disk is not what was written");
}

/* What is called zero is. */
static int
check_extents (void *opaque, const char *context, uint64_t offset,
               uint32_t *entries, size_t n, int *error)
{
  const struct snap *s = opaque;
  uint64_t end;

  (void) context;
  (void) error;
  for (; n >= 2; entries += 2, n -= 2) {
    end = min_u64 (offset + entries[0], model.size);
    for (; offset < end; ++offset)
      REQUIRE (!(entries[1] & LIBNBD_STATE_ZERO) || s->at.data[offset] == 0,
               "%s: byte %" PRIu64 " is called zero, and is %02x", s->name,
               offset, s->at.data[offset]);
  }
  return 0;
}

void
compare_extents (struct snap *s, uint64_t count, uint64_t offset)
{
  const nbd_extent_callback callback = {
    .callback = check_extents, .user_data = s
  };

  snap_connect (s);
  REQUIRE (nbd_block_status (s->nbd, count, offset, callback, 0) == 0,
           "%s: %s", s->name, nbd_get_error ());
}

/* ---- Making and dropping ---- */

struct snap *
snap_new (void)
{
  struct snap *s = &model.snaps[model.nr_snaps];

  memset (s, 0, sizeof *s);
  snprintf (s->name, sizeof s->name, "s%" PRIu64, model.next_name++);
  snprintf (s->target, sizeof s->target, "%s/s%" PRIu64 ".cow", model.dir,
            model.next_name - 1);
  return s;
}

/* It was made: the model has it from now on. */
void
snap_add (struct snap *s, const unsigned char *data)
{
  struct snapshot_info info;

  REQUIRE (entry_find (map (), s->name, &info), "%s: it was made, and is not "
           "there", s->name);
  moment_new (&s->at, info.id, data);
  model.nr_snaps++;
  model.creates++;
}

void
snap_remove (struct snap *s)
{
  snap_disconnect (s);
  moment_free (&s->at);
  *s = model.snaps[--model.nr_snaps];
  model.drops++;
}

bool
is_listed (const char *name)
{
  struct snapshot_info info;
  const bool r = entry_find (map (), name, &info);

  REQUIRE (!r || info.state == CBW_SNAPSHOT_LIVE, "%s: is broken", name);
  return r;
}

void
owner_end (struct snap *s)
{
  client_detach (s->owner);
  free (s->owner);
  s->owner = NULL;
}

void
check_dropped (const struct snap *s)
{
  char byte;

  REQUIRE (!is_listed (s->name), "%s was dropped, and is there", s->name);
  if (s->nbd)
    REQUIRE (nbd_pread (s->nbd, &byte, 1, 0, 0) == -1 &&
             nbd_get_errno () == ESHUTDOWN, "%s was dropped: %s", s->name,
             nbd_get_error ());
}

void
drop_all (uint64_t *seed)
{
  struct error e;
  unsigned i;

  while (model.nr_snaps > 0) {
    i = (unsigned) unit_random (seed) % model.nr_snaps;
    REQUIRE (control_drop (&model.patient, model.snaps[i].name, 0, 0, &e) == 0,
             "%s", e.msg);
    if (model.snaps[i].owner)
      owner_end (&model.snaps[i]);
    snap_remove (&model.snaps[i]);
  }
  live_wait_entries (map (), 0);
  live_wait_slots (map (), 0);
  live_check_targets (map (), model.dir);
  live_check_open_files (&model.filter);
}

/* ---- The servers ---- */

void
model_start (char **argv)
{
  char path[256];
  struct error e;

  model.dir = live_arg (argv, "dir", NULL);
  model.size = live_number (argv, "size", 0);
  model.disk = malloc (model.size);
  model.buf = malloc (model.size);
  CHECK (model.disk != NULL && model.buf != NULL);
  snprintf (path, sizeof path, "%s/shm", model.dir);
  server_init (&model.filter, model.dir, "disk");
  server_init (&model.plugin, model.dir, "snap");
  server_start (&model.filter);
  server_start (&model.plugin);
  guest_connect ();
  REQUIRE (client_attach (&model.patient, path, "patient", false, 0, &e) == 0 &&
           client_attach (&model.impatient, path, "impatient", false, 0, &e) == 0,
           "%s", e.msg);
  model.patient.server_timeout_ns = 60 * NS_PER_SEC;
  read_disk (model.disk, model.size, 0);
}

void
model_end (void)
{
  nbd_close (model.guest);
  client_detach (&model.patient);
  client_detach (&model.impatient);
  server_stop (&model.plugin, SIGTERM);
  server_stop (&model.filter, SIGTERM);
  free (model.disk);
  free (model.buf);
}
