/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdarg.h>

#include "engine-env.h"
#include "rounding.h"
#include "unit.h"
#include "view.h"

/* ---- nbdkit's functions ---- */

#define EXTENTS_MAX 4096

struct nbdkit_extents {
  uint64_t start, end;
  size_t count;
  struct nbdkit_extent x[EXTENTS_MAX];
};

void
nbdkit_error (const char *fmt, ...)
{
  (void) fmt;                   /* expected: tests make things fail */
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
  int err;

  f->writes++;
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
  const unsigned char first = __atomic_load_n (&w[offset], __ATOMIC_RELAXED);

  (void) e;
  to_target (image)->fake.extents++;
  *data = first;
  for (*next = offset + 1; *next < end; ++*next)
    if (__atomic_load_n (&w[*next], __ATOMIC_RELAXED) != first)
      break;
  return 0;
}

static int
target_flush (struct image *image, struct error *e)
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
  .flush = target_flush, .close = target_close,
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
fill_disk (struct env *env, uint32_t cluster_size, uint64_t seed)
{
  uint64_t i;

  for (i = 0; i < env->disk.fake.size; ++i)
    if (i / cluster_size % 3 != 1)
      env->disk.fake.data[i] = (unsigned char) unit_random (&seed) | 1;
  memcpy (env->old, env->disk.fake.data, env->disk.fake.size);
}

void
env_start (struct env *env, uint64_t size, uint32_t cluster_size,
           uint64_t seed)
{
  const uint64_t clusters = (size + cluster_size - 1) / cluster_size;

  memset (env, 0, sizeof *env);
  fake_init (&env->disk.fake, size);
  env->disk.ops.pread = source_pread_fake;
  env->disk.ops.extents = source_extents_fake;
  env->source.next = (nbdkit_next *) &env->disk;
  env->old = malloc (size);
  CHECK (env->old != NULL);
  fill_disk (env, cluster_size, seed);

  env->target = calloc (1, sizeof *env->target);
  CHECK (env->target != NULL);
  env->target->image.ops = &target_ops;
  fake_init (&env->target->fake, size);
  env->target->written = calloc (1, size);
  CHECK (env->target->written != NULL);

  env->snap = calloc (1, sizeof *env->snap);
  CHECK (env->snap != NULL);
  *env->snap = (struct snapshot) {
    .entry = &env->entry, .id = ENV_SNAPSHOT_ID, .size = size,
    .cluster_size = cluster_size, .access = new_bitmap (clusters),
    .done = new_bitmap (clusters), .dirty = new_bitmap (clusters),
    .target = &env->target->image,
  };
  bitmap_set (&env->snap->access, 0, clusters);
  env->entry.state = CBW_SNAPSHOT_RESERVED;
  engine_init (&env->engine);
  CHECK (engine_add_snapshot (&env->engine, env->snap) == 0);
  CHECK_EQ (env->entry.state, CBW_SNAPSHOT_LIVE);
}

void
env_end (struct env *env)
{
  void *access = (void *) env->snap->access.words;
  void *done = (void *) env->snap->done.words;
  void *dirty = (void *) env->snap->dirty.words;

  engine_destroy (&env->engine);
  free (access);
  free (done);
  free (dirty);
  free (env->disk.fake.data);
  free (env->old);
}

void
env_guest (struct env *env, enum guest_op op, uint64_t offset,
           uint64_t count, unsigned char byte)
{
  const unsigned ticket = engine_guest_begin (&env->engine, &env->source,
                                              offset, count, op);

  racy_fill (env->disk.fake.data + offset, op == GUEST_WRITE ? byte : 0,
             count);
  engine_guest_end (&env->engine, ticket);
}

int
env_view (struct env *env, uint64_t offset, uint64_t count)
{
  unsigned char *buf = malloc (count);
  int r;

  CHECK (buf != NULL);
  memset (buf, 0xee, count);
  r = view_read (&env->engine, &env->source, ENV_SNAPSHOT_ID, buf, count,
                 offset);
  if (r == 0)
    CHECK (memcmp (buf, env->old + offset, count) == 0);
  free (buf);
  return r;
}

int
env_view_extents (struct env *env, uint64_t offset, uint64_t count,
                  uint64_t *length)
{
  struct cbw_extent *x = malloc (CBW_SLOT_BUFFER_SIZE);
  uint32_t nr, i;
  uint64_t j;
  int r;

  CHECK (x != NULL);
  *length = 0;
  r = view_extents (&env->engine, &env->source, ENV_SNAPSHOT_ID, count,
                    offset, true, x, &nr);
  if (r == 0)
    CHECK (nr > 0 && nr <= CBW_EXTENTS_MAX);
  for (i = 0; r == 0 && i < nr; ++i) {
    CHECK (x[i].length > 0 && x[i].length <= count - *length);
    for (j = 0; x[i].type & CBW_EXTENT_ZERO && j < x[i].length; ++j)
      CHECK_EQ (env->old[offset + *length + j], 0);
    *length += x[i].length;
  }
  free (x);
  return r;
}

bool
env_done (struct env *env, uint64_t c)
{
  const uint64_t cs = env->snap->cluster_size;
  const uint64_t len = min_u64 (cs, env->snap->size - c * cs);

  if (!bitmap_test (&env->snap->done, c))
    return false;
  CHECK (memcmp (env->old + c * cs, env->target->fake.data + c * cs,
                 len) == 0);
  return true;
}
