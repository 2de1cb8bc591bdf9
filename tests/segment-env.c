/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include "segment-env.h"
#include "segment/segment-server.h"
#include "unit.h"

struct segment_env segment_env;

void
segment_env_start (void)
{
  segment_env.dir = unit_tmpdir ();
  CHECK (asprintf (&segment_env.path, "%s/shm", segment_env.dir) != -1);
}

void
segment_env_end (void)
{
  free (segment_env.path);
  unit_rmdir (segment_env.dir);
}

void
segment_env_serve (struct segment *s, uint64_t disk_size,
                   uint32_t cluster_size)
{
  struct error e;

  *s = (struct segment) SEGMENT_INIT;
  CHECK (segment_serve (s, segment_env.path, disk_size, cluster_size, 0,
                        &e) == 0);
}

void
segment_env_publish (struct segment *s)
{
  struct error e;

  CHECK (segment_begin (s, &e) == 0);
  segment_publish (s);
}

/* ---- The request list ---- */

void
slots_set (const struct cbw_map *m, unsigned i, enum slot_state state,
           uint32_t owner)
{
  atomic_store (&map_slot (m, i)->state, state | owner << SLOT_OWNER_SHIFT);
}

unsigned
slots_count (const struct cbw_map *m, enum slot_state state)
{
  unsigned i, n = 0;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    n += (atomic_load (&map_slot (m, i)->state) & SLOT_STATE_MASK) == state;
  return n;
}

unsigned
slots_used (const struct cbw_map *m)
{
  unsigned i, n = 0;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    n += atomic_load (&map_slot (m, i)->state) != 0;
  return n;
}
