/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <fcntl.h>

#include "stress-oracle.h"
#include "unit.h"
#include "utils/rounding.h"

#define AREA_MAX (3 << 20)

/* Kinds of old data change every so many bytes, at odd places. */
#define CHUNK 50021
#define LARGE_HOLE (1 << 20)

enum kind { HOLE, ZEROES, DATA };

static uint64_t
hash (uint64_t seed, uint64_t n)
{
  uint64_t state = seed ^ n * UINT64_C (0xd6e8feb86659fd93);

  return unit_random (&state);
}

static enum kind
kind_at (const struct model *m, uint64_t offset)
{
  static const enum kind kinds[] = { HOLE, ZEROES, DATA, DATA, DATA };

  if (m->blank || hash (m->seed + 1, offset / LARGE_HOLE) % 5 == 0)
    return HOLE;
  return kinds[hash (m->seed + 2, offset / CHUNK) % 5];
}

static uint64_t
kind_end (uint64_t offset)
{
  return min_u64 ((offset / CHUNK + 1) * CHUNK,
                  (offset / LARGE_HOLE + 1) * LARGE_HOLE);
}

static void
fill_data (const struct model *m, unsigned char *buf, uint64_t count,
           uint64_t offset)
{
  uint64_t i, word = 0;

  for (i = 0; i < count; ++i) {
    if (i == 0 || (offset + i) % 8 == 0)
      word = hash (m->seed, (offset + i) / 8);
    buf[i] = (unsigned char) (word >> (offset + i) % 8 * 8);
  }
}

void
model_old (const struct model *m, unsigned char *buf, uint64_t count,
           uint64_t offset)
{
  uint64_t n;

  for (; count > 0; buf += n, offset += n, count -= n) {
    n = min_u64 (kind_end (offset) - offset, count);
    if (kind_at (m, offset) == DATA)
      fill_data (m, buf, n, offset);
    else
      memset (buf, 0, n);
  }
}

void
model_make_file (const struct model *m, const char *path)
{
  const int fd = open (path, O_CREAT | O_EXCL | O_WRONLY, 0600);
  unsigned char buf[CHUNK];
  uint64_t offset, n;

  CHECK (fd >= 0);
  CHECK (ftruncate (fd, (off_t) m->size) == 0);
  for (offset = 0; offset < m->size; offset += n) {
    n = min_u64 (kind_end (offset), m->size) - offset;
    if (kind_at (m, offset) == HOLE)
      continue;
    model_old (m, buf, n, offset);
    CHECK (pwrite (fd, buf, n, (off_t) offset) == (ssize_t) n);
  }
  close (fd);
}

uint64_t
random_length (uint64_t *seed, uint64_t max)
{
  const uint64_t bits = unit_random (seed) % 25;

  return 1 + unit_random (seed) % min_u64 (UINT64_C (1) << bits, max);
}

static void
areas_add (struct areas *a, uint64_t offset, uint64_t length)
{
  a->list = realloc (a->list, (a->nr + 1) * sizeof *a->list);
  CHECK (a->list != NULL);
  a->list[a->nr++] = (struct area) { .offset = offset, .length = length };
}

void
model_init (struct model *m, uint64_t size, uint64_t seed, bool blank,
            unsigned writers)
{
  uint64_t state = seed, offset, length;

  *m = (struct model) {
    .size = size, .seed = seed, .blank = blank, .writers = writers,
  };
  m->areas = calloc (writers + 1, sizeof *m->areas);
  m->now = malloc (size + 1);
  CHECK (m->areas != NULL && m->now != NULL);
  model_old (m, m->now, size, 0);
  for (offset = 0; writers > 0 && offset < size; offset += length) {
    length = random_length (&state, min_u64 (AREA_MAX, size - offset));
    areas_add (&m->areas[unit_random (&state) % writers], offset, length);
  }
}

void
model_free (struct model *m)
{
  unsigned i;

  for (i = 0; i < m->writers; ++i)
    free (m->areas[i].list);
  free (m->areas);
  free (m->now);
}
