/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdarg.h>

#include "engine-env.h"
#include "lifecycle/lifecycle.h"
#include "service/serve-read.h"
#include "unit.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* ---- nbdkit's functions ---- */

#define EXTENTS_MAX 4096

struct nbdkit_extents {
  uint64_t start, end;
  size_t count;
  struct nbdkit_extent x[EXTENTS_MAX];
};

int cbw_debug_copy, cbw_debug_claims, cbw_debug_cut, cbw_debug_end,
  cbw_debug_backup, cbw_debug_takeover, cbw_debug_cool_ms;

void
nbdkit_error (const char *fmt, ...)
{
  (void) fmt;                   /* expected: tests make things fail */
}

void
log_error (const char *fmt, ...)
{
  (void) fmt;                   /* the same */
}

void
log_debug (const char *fmt, ...)
{
  (void) fmt;
}

bool
patience_sleep (uint64_t ns)
{
  const struct timespec ts = {
    .tv_sec = (time_t) (ns / NS_PER_SEC), .tv_nsec = (long) (ns % NS_PER_SEC)
  };

  return nanosleep (&ts, NULL) == 0;
}

struct nbdkit_extents *
nbdkit_extents_new (uint64_t start, uint64_t end)
{
  struct nbdkit_extents *exts = malloc (sizeof *exts);

  CHECK (exts != NULL && start < end);
  exts->start = start;
  exts->end = end;
  exts->count = 0;
  return exts;
}

void
nbdkit_extents_free (struct nbdkit_extents *exts)
{
  free (exts);
}

size_t
nbdkit_extents_count (const struct nbdkit_extents *exts)
{
  return exts->count;
}

struct nbdkit_extent
nbdkit_get_extent (const struct nbdkit_extents *exts, size_t i)
{
  CHECK (i < exts->count);
  return exts->x[i];
}

/* ---- Source and target ---- */

/* For those who ask how large the disk is now: as large as it was. */
int
disk_look (struct disk *d, struct error *e)
{
  (void) d;
  (void) e;
  return 0;
}

void
hook_set (struct hook *hook, void (*run) (void *), void *opaque)
{
  hook->opaque = opaque;
  atomic_store (&hook->skip, 0);
  atomic_store (&hook->run, run);
}

static void
hook_call (struct hook *hook)
{
  void (*run) (void *);

  if (atomic_load (&hook->run) == NULL ||
      atomic_fetch_sub (&hook->skip, 1) > 0)
    return;
  run = atomic_exchange (&hook->run, NULL);
  if (run)
    run (hook->opaque);
}

void
racy_copy (void *to, const void *from, uint64_t count)
{
  unsigned char *t = to;
  const unsigned char *f = from;

  for (; count > 0; --count, ++t, ++f)
    __atomic_store_n (t, __atomic_load_n (f, __ATOMIC_RELAXED),
                      __ATOMIC_RELAXED);
}

static void
racy_fill (unsigned char *to, unsigned char byte, uint64_t count)
{
  for (; count > 0; --count, ++to)
    __atomic_store_n (to, byte, __ATOMIC_RELAXED);
}

/* One operation: the bytes in two halves, with the hooks around. */
static int
fake_move (struct fake *f, void *to, const void *from, uint64_t offset,
           uint64_t count)
{
  const uint64_t half = count / 2;

  CHECK (count > 0 && offset <= f->size && count <= f->size - offset);
  __atomic_store_n (&f->last_offset, offset, __ATOMIC_RELAXED);
  __atomic_store_n (&f->last_count, count, __ATOMIC_RELAXED);
  hook_call (&f->before);
  racy_copy (to, from, half);
  hook_call (&f->amid);
  racy_copy ((char *) to + half, (const char *) from + half, count - half);
  hook_call (&f->after);
  return atomic_load (&f->fail);
}

static int
source_pread_fake (nbdkit_next *next, void *buf, uint32_t count,
                   uint64_t offset, uint32_t flags, int *err)
{
  struct fake *f = &((struct fake_source *) next)->fake;

  CHECK_EQ (flags, 0);
  f->reads++;
  *err = fake_move (f, buf, f->data + offset, offset, count);
  return *err ? -1 : 0;
}

/* Zero or not, by blocks of 4 KiB. */
static int
source_extents_fake (nbdkit_next *next, uint32_t count, uint64_t offset,
                     uint32_t flags, struct nbdkit_extents *exts, int *err)
{
  struct fake *f = &((struct fake_source *) next)->fake;
  uint64_t end = offset + count, pos, stop, i;
  struct nbdkit_extent x, *last;
  unsigned char any;

  CHECK (end <= f->size);
  f->extents++;
  hook_call (&f->before);
  for (pos = offset; pos < end && exts->count < EXTENTS_MAX; pos = stop) {
    stop = min_u64 (round_down (pos, 4096) + 4096, end);
    for (i = pos, any = 0; i < stop; ++i)
      any |= __atomic_load_n (&f->data[i], __ATOMIC_RELAXED);
    x = (struct nbdkit_extent) {
      .offset = pos, .length = stop - pos,
      .type = any ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO,
    };
    last = exts->count ? &exts->x[exts->count - 1] : NULL;
    if (last && last->type == x.type)
      last->length += x.length;
    else if (last && flags & NBDKIT_FLAG_REQ_ONE)
      break;
    else
      exts->x[exts->count++] = x;
    if (pos == offset)
      hook_call (&f->amid);
  }
  hook_call (&f->after);
  *err = atomic_load (&f->fail);
  return *err ? -1 : 0;
}

static struct fake_target *
to_target (struct image *image)
{
  return (struct fake_target *) image;
}

static int
target_pread (struct image *image, void *buf, size_t count, uint64_t offset,
              struct error *e)
{
  struct fake *f = &to_target (image)->fake;
  int err;

  f->reads++;
  err = fake_move (f, buf, f->data + offset, offset, count);
  return err ? error_set (e, err, "target pread") : 0;
}

static int
target_pwrite (struct image *image, const void *buf, size_t count,
               uint64_t offset, struct error *e)
{
  struct fake *f = &to_target (image)->fake;
  size_t i;
  int err;

  f->writes++;
  for (i = 0; i < count; ++i)
    if (__atomic_load_n (&to_target (image)->written[offset + i],
                         __ATOMIC_RELAXED)) {
      to_target (image)->rewrites++;
      break;
    }
  racy_fill (to_target (image)->written + offset, 1, count);
  err = fake_move (f, f->data + offset, buf, offset, count);
  if (err == 0)
    err = atomic_load (&f->fail_writes);
  return err ? error_set (e, err, "target pwrite") : 0;
}

static int
target_extent (struct image *image, uint64_t offset, uint64_t end,
               uint64_t *next, bool *data, struct error *e)
{
  const unsigned char *w = to_target (image)->written;
  unsigned char first;

  (void) e;
  to_target (image)->fake.extents++;
  hook_call (&to_target (image)->fake.in_extent);
  first = __atomic_load_n (&w[offset], __ATOMIC_RELAXED);
  *data = first;
  for (*next = offset + 1; *next < end; ++*next)
    if (__atomic_load_n (&w[*next], __ATOMIC_RELAXED) != first)
      break;
  return 0;
}

/* Who needed it after all finds that it is not what it was. */
static int
target_punch (struct image *image, uint64_t offset, uint64_t count,
              struct error *e)
{
  struct fake_target *t = to_target (image);

  (void) e;
  CHECK (count > 0 && offset <= t->fake.size &&
         count <= t->fake.size - offset);
  CHECK_EQ (offset % t->cluster_size, 0);
  CHECK ((offset + count) % t->cluster_size == 0 ||
         offset + count == t->fake.size);
  racy_fill (t->fake.data + offset, t->holes ? 0 : 0xdd, count);
  racy_fill (t->written + offset, !t->holes, count);
  bitmap_set (&t->punched, offset / t->cluster_size,
              (offset + count + t->cluster_size - 1) / t->cluster_size);
  return 0;
}

static int
target_flush (struct image *image, struct error *e)
{
  const int err = atomic_load (&to_target (image)->fail_flush);

  to_target (image)->flushes++;
  hook_call (&to_target (image)->fake.in_flush);
  return err ? error_set (e, err, "target flush") : 0;
}

static int
target_check (struct image *image, struct error *e)
{
  (void) image;
  (void) e;
  return 0;
}

static void
target_close (struct image *image)
{
  free (to_target (image)->fake.data);
  free (to_target (image)->written);
  free (image);
}

static const struct image_ops target_ops = {
  .pread = target_pread, .pwrite = target_pwrite, .extent = target_extent,
  .punch = target_punch, .check = target_check, .flush = target_flush,
  .close = target_close,
};

/* ---- The whole ---- */

static void
fake_init (struct fake *f, uint64_t size)
{
  memset (f, 0, sizeof *f);
  f->size = size;
  f->data = calloc (1, size);
  CHECK (f->data != NULL);
}

static struct bitmap
new_bitmap (uint64_t nbits)
{
  const struct bitmap b = { calloc (1, bitmap_bytes (nbits)), nbits };

  CHECK (b.words != NULL);
  return b;
}

static void
fill_disk (struct env *env, uint64_t seed)
{
  uint64_t i;

  for (i = 0; i < env->disk.fake.size; ++i)
    if (i / env->cluster_size % 3 != 1)
      env->disk.fake.data[i] = (unsigned char) unit_random (&seed) | 1;
}

void
env_start_bare (struct env *env, uint64_t size, uint32_t cluster_size,
                uint64_t seed)
{
  memset (env, 0, sizeof *env);
  fake_init (&env->disk.fake, size);
  env->disk.ops.pread = source_pread_fake;
  env->disk.ops.extents = source_extents_fake;
  env->source = source_of_context ((nbdkit_next *) &env->disk, size, NULL,
                                   NULL);
  env->cluster_size = cluster_size;
  fill_disk (env, seed);

  env->segment = (struct segment) SEGMENT_INIT;
  env->segment.path = (char *) "segment";
  env->segment.map.base = calloc (1, CBW_PAGE);
  CHECK (env->segment.map.base != NULL);
  engine_init (&env->engine);
  env->engine.table.next_id = ENV_ID (0);
  engine_set_source (&env->engine, &env->source);
  copier_attach (&env->engine.copier, &env_header (env)->unchanged_claims);
}

void
env_buffer (struct env *env, uint32_t nr_cells)
{
  struct cbw_map *m = &env->segment.map;
  struct error e;

  free (m->base);
  layout_geometry (env->disk.fake.size, env->cluster_size, nr_cells,
                   &m->geometry);
  m->base = calloc (1, layout_file_size (&m->geometry, 0));
  CHECK (m->base != NULL);
  copier_attach (&env->engine.copier, &env_header (env)->unchanged_claims);
  CHECK (writeback_attach (&env->engine.writeback, m, true, &e) == 0);
  cells_free_rest (&env->engine.writeback.cells);
}

void
env_drain (struct env *env)
{
  struct error e;

  CHECK (writeback_start (&env->engine.writeback, &e) == 0);
}

uint64_t
env_buffered (struct env *env)
{
  struct writeback *w = &env->engine.writeback;

  uint64_t seen = 0;
  unsigned i;

  LOCK_FOR_SCOPE (&w->lock);    /* what the threads did comes before */
  for (i = 0; i < env->nr; ++i)
    seen += atomic_load (&env->s[i].entry.cells);
  CHECK_EQ (seen, w->cells.used);
  CHECK_EQ (w->cells.used, atomic_load (&map_header (w->cells.map)->cells_used));
  return w->cells.used;
}

static struct fake_target *
new_target (const struct env_snapshot *s, uint64_t size,
            uint32_t cluster_size)
{
  struct fake_target *target = calloc (1, sizeof *target);

  CHECK (target != NULL);
  target->image.ops = &target_ops;
  target->image.reads_zero = true;
  fake_init (&target->fake, size);
  target->written = calloc (1, size);
  CHECK (target->written != NULL);
  target->punched = s->punched;
  target->cluster_size = cluster_size;
  return target;
}

unsigned
env_prepare (struct env *env, uint64_t size, enum cbw_snapshot_state state)
{
  const uint64_t cs = env->cluster_size, clusters = (size + cs - 1) / cs;
  const unsigned i = env->nr++;
  struct env_snapshot *s = &env->s[i];
  struct error e;

  CHECK (i < CBW_NR_SNAPSHOTS && size <= env->disk.fake.size);
  s->old = malloc (size);
  CHECK (s->old != NULL);
  memcpy (s->old, env->disk.fake.data, size);
  s->access = new_bitmap (clusters);
  s->done = new_bitmap (clusters);
  s->settled = new_bitmap (clusters);
  s->moved = new_bitmap (clusters);
  s->punched = new_bitmap (clusters);
  bitmap_set (&s->access, 0, clusters);
  s->target = new_target (s, size, env->cluster_size);
  s->entry.id = ENV_ID (i);
  s->entry.size = size;
  s->entry.target_kind = CBW_TARGET_RAW;
  s->entry.state = state;
  env->engine.table.next_id = ENV_ID (i + 1);

  s->snap = calloc (1, sizeof *s->snap);
  CHECK (s->snap != NULL);
  *s->snap = (struct snapshot) {
    .refs = 1, .entry = &s->entry, .settled = s->settled,
    .moved = s->moved,
    .target = &s->target->image, .state = state,
    .view = {
      .id = ENV_ID (i), .size = size, .cluster_size = env->cluster_size,
      .backup = s->entry.options.backup, .state = &s->snap->state,
      .access = s->access, .done = s->done,
    },
  };
  memcpy (&s->snap->fixed, &s->entry, sizeof s->entry);
  CHECK (writeback_set_store (&env->engine.writeback, s->snap, true, &e) == 0);
  return i;
}

void
env_vanish (struct engine *e, struct segment *segment)
{
  engine_stop (e);
  CHECK (engine_join (e, now_monotonic_ns () + 30 * NS_PER_SEC));
  engine_free (e);
  segment_close (segment, false);
}

int
env_cut (struct engine *e, struct snapshot *snap, uint64_t *held_ns,
         struct error *error)
{
  const struct engine_cut cut = { .snap = snap, .size = snap->view.size };

  return engine_cut (e, &cut, 0, held_ns, error);
}

int
env_commit (struct engine *e, uint64_t number, struct snapshot *snap,
            uint64_t *held_ns, struct error *error)
{
  const struct engine_cut cut = { .snap = snap, .size = snap->view.size };

  return engine_commit (e, number, &cut, held_ns, error);
}

unsigned
env_adopt (struct env *env, uint64_t size, enum cbw_snapshot_state state)
{
  const unsigned i = env_prepare (env, size, state);
  uint64_t held_ns;
  struct error e;

  CHECK (env_cut (&env->engine, env->s[i].snap, &held_ns, &e) == 0);
  snapshot_unref (env->s[i].snap);
  return i;
}

unsigned
env_create (struct env *env, uint64_t size)
{
  const unsigned i = env_adopt (env, size, CBW_SNAPSHOT_RESERVED);

  CHECK_EQ (env_state (env, i), CBW_SNAPSHOT_LIVE);
  return i;
}

unsigned
env_backup (struct env *env, bool paused)
{
  struct cbw_snapshot *entry = &env->s[env->nr].entry;
  struct error e;
  unsigned i;

  entry->options.backup = 1;
  entry->job.kind = CBW_JOB_BACKUP;
  atomic_store (&entry->job.state,
                paused ? CBW_JOB_PAUSED : CBW_JOB_RUNNING);
  i = env_create (env, env->disk.fake.size);
  CHECK (fill_add (&env->engine.fill, env->s[i].snap, &e) == 0);
  return i;
}

/* The closer has nothing to do any more. */
static bool
is_closed (struct env *env)
{
  struct crew *c = &env->engine.closer.crew;

  LOCK_FOR_SCOPE (&c->lock);
  return c->idle == c->threads.started && c->queued == 0;
}

void
env_drop (struct env *env, unsigned i)
{
  struct error e;

  CHECK (drop_snapshot (&env->engine, &env->segment, ENV_ID (i), false, 0,
                        &e) == 0);
  while (!is_closed (env))
    usleep (50);
}

void
env_start (struct env *env, uint64_t size, uint32_t cluster_size,
           uint64_t seed)
{
  env_start_bare (env, size, cluster_size, seed);
  env_create (env, size);
}

void
env_end (struct env *env)
{
  struct env_snapshot *s;

  engine_stop (&env->engine);
  CHECK (engine_join (&env->engine, now_monotonic_ns () + 30 * NS_PER_SEC));
  engine_free (&env->engine);
  for (s = env->s; s < env->s + env->nr; ++s) {
    free ((void *) s->access.words);
    free ((void *) s->done.words);
    free ((void *) s->settled.words);
    free ((void *) s->moved.words);
    free ((void *) s->punched.words);
    free (s->old);
  }
  free (env->segment.map.base);
  free (env->disk.fake.data);
}

void
env_guest (struct env *env, enum guest_op op, uint64_t offset,
           uint64_t count, unsigned char byte)
{
  struct guest_change change;

  CHECK_EQ (engine_guest_begin (&env->engine, &env->source.image, offset,
                                count, op, NULL, &change), 0);
  racy_fill (env->disk.fake.data + offset, op == GUEST_WRITE ? byte : 0,
             count);
  engine_guest_end (&env->engine, &change, false);
}

int
env_view_of (struct env *env, unsigned i, uint64_t offset, uint64_t count)
{
  unsigned char *buf = malloc (count);
  int r;

  CHECK (buf != NULL);
  memset (buf, 0xee, count);
  r = serve_read (&env->engine, &env->source.image, ENV_ID (i), buf, count,
                  offset);
  if (r == 0)
    CHECK (memcmp (buf, env->s[i].old + offset, count) == 0);
  free (buf);
  return r;
}

int
env_view_extents_of (struct env *env, unsigned i, uint64_t offset,
                     uint64_t count, uint64_t *length)
{
  struct cbw_extent *x = malloc (CBW_SLOT_BUFFER_SIZE);
  uint32_t nr, n;
  uint64_t j;
  int r;

  CHECK (x != NULL);
  *length = 0;
  r = serve_extents (&env->engine, &env->source.image, ENV_ID (i), count,
                     offset, true, x, &nr);
  if (r == 0)
    CHECK (nr > 0 && nr <= CBW_EXTENTS_MAX);
  for (n = 0; r == 0 && n < nr; ++n) {
    CHECK (x[n].length > 0);
    CHECK (*length < count);    /* only the last may go beyond */
    CHECK (offset + *length + x[n].length <= env->s[i].snap->view.size);
    for (j = 0; x[n].type & CBW_EXTENT_ZERO && j < x[n].length; ++j)
      CHECK_EQ (env->s[i].old[offset + *length + j], 0);
    *length += x[n].length;
  }
  free (x);
  return r;
}

int
env_view (struct env *env, uint64_t offset, uint64_t count)
{
  return env_view_of (env, 0, offset, count);
}

int
env_view_extents (struct env *env, uint64_t offset, uint64_t count,
                  uint64_t *length)
{
  return env_view_extents_of (env, 0, offset, count, length);
}

bool
env_done (struct env *env, uint64_t c)
{
  const struct env_snapshot *s = &env->s[0];
  const uint64_t cs = env->cluster_size;
  const uint64_t len = min_u64 (cs, s->entry.size - c * cs);

  if (!bitmap_test (&s->done, c))
    return false;
  CHECK (memcmp (s->old + c * cs, s->target->fake.data + c * cs, len) == 0);
  return true;
}
