/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>

#include "stress-peer.h"
#include "stress-work.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

bool
stress_continues (void)
{
  return stress.until ? access (stress.until, F_OK) == -1 :
    now_monotonic_ns () < stress.deadline;
}

/* ---- Writers ---- */

enum op { WRITE, ZERO, TRIM };

/* The range holds, byte for byte, what the model says or what "p->expected"
 * does: adopt it.
 */
static void
adopt (struct peer *p, uint64_t count, uint64_t offset)
{
  uint64_t i;

  peer_read (p, count, offset);
  for (i = 0; i < count; ++i)
    if (p->buf[i] != stress.model.now[offset + i] &&
        p->buf[i] != p->expected[i])
      peer_die (p, "byte %" PRIu64 " of the disk is %02x, "
                "neither the old %02x nor the new %02x", offset + i,
                p->buf[i], stress.model.now[offset + i], p->expected[i]);
  memcpy (stress.model.now + offset, p->buf, count);
}

static int
send_change (struct peer *p, enum op op, uint64_t count, uint64_t offset,
             uint32_t flags)
{
  switch (op) {
  case WRITE:
    return nbd_pwrite (p->nbd, p->expected, count, offset, flags);
  case ZERO:
    return nbd_zero (p->nbd, count, offset, flags);
  default:
    return nbd_trim (p->nbd, count, offset, flags);
  }
}

static void
note_time (uint64_t ns)
{
  uint64_t old = stress.slowest_ns;

  while (ns > old &&
         !atomic_compare_exchange_weak (&stress.slowest_ns, &old, ns))
    ;
}

static void
change (struct peer *p, enum op op, uint64_t count, uint64_t offset,
        uint32_t flags)
{
  const uint64_t begin = now_monotonic_ns ();

  if (send_change (p, op, count, offset, flags) == -1) {
    /* ENOTSUP: it would have had to copy.  qemu-nbd (7.2) has zeroed the
     * unaligned ends by then.
     */
    if (!(flags & LIBNBD_CMD_FLAG_FAST_ZERO && nbd_get_errno () == ENOTSUP)) {
      if (peer_may_fail (p, stress.guest_errors)) {
        memcpy (p->expected, stress.model.now + offset, count);
        adopt (p, count, offset); /* still what it was */
        return;
      }
      peer_failed (p, "change", count, offset);
    }
    adopt (p, count, offset);
    return;
  }
  note_time (now_monotonic_ns () - begin);
  stress.nr_changes++;
  /* A trim promises nothing, but it must not invent bytes. */
  if (op == TRIM)
    adopt (p, count, offset);
  else
    memcpy (stress.model.now + offset, p->expected, count);
}

static void
random_change (struct peer *p, uint64_t count, uint64_t offset)
{
  const unsigned dice = unit_random (&p->seed) % 100;
  uint32_t flags = 0;
  uint64_t i;

  if (unit_random (&p->seed) % 8 == 0 && nbd_can_fua (p->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (dice < 70) {
    memcpy (p->expected, stress.model.now + offset, count);
    for (i = 0; dice >= 10 && i < count; ++i) /* else it changes nothing */
      p->expected[i] = (unsigned char) (i + dice + (offset + i) / 251);
    change (p, WRITE, count, offset, flags);
    return;
  }
  memset (p->expected, 0, count);
  if (dice < 86 && nbd_can_zero (p->nbd) == 1) {
    if (dice % 4 == 0)
      flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    if (dice % 4 == 1 && nbd_can_fast_zero (p->nbd) == 1)
      flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
    change (p, ZERO, count, offset, flags);
  }
  else if (nbd_can_trim (p->nbd) == 1)
    change (p, TRIM, count, offset, flags);
}

/* A range of one of the writer's areas, often at its edge. */
static void
random_range (struct peer *p, uint64_t *count, uint64_t *offset)
{
  const struct areas *mine = &stress.model.areas[p->index];
  const struct area *a = &mine->list[unit_random (&p->seed) % mine->nr];
  const uint64_t max = min_u64 (a->length, stress.max);

  *count = random_length (&p->seed, max);
  switch (unit_random (&p->seed) % 8) {
  case 0: case 1:
    *offset = a->offset;
    break;
  case 2: case 3:
    *offset = a->offset + a->length - *count;
    break;
  case 4:
    *count = max;
    /* fallthrough */
  default:
    *offset = a->offset + unit_random (&p->seed) % (a->length - *count + 1);
  }
}

void *
stress_writer (void *opaque)
{
  struct peer *p = opaque;
  uint64_t count, offset;
  unsigned dice;

  peer_start (p);
  while (stress_continues () && stress.model.areas[p->index].nr > 0) {
    pthread_rwlock_rdlock (&stress.changing);
    random_range (p, &count, &offset);
    dice = unit_random (&p->seed) % 20;
    if (dice == 0 && nbd_can_flush (p->nbd) == 1) {
      if (nbd_flush (p->nbd, 0) == -1)
        peer_failed (p, "flush", 0, 0);
    }
    else if (dice < 3) {
      memcpy (p->expected, stress.model.now + offset, count);
      adopt (p, count, offset); /* still what we wrote */
    }
    else
      random_change (p, count, offset);
    pthread_rwlock_unlock (&stress.changing);
  }
  peer_end (p);
  return NULL;
}

/* ---- Readers ---- */

static void
compare (struct peer *p, uint64_t count, uint64_t offset,
         const unsigned char *expected)
{
  uint64_t i;

  if (!peer_read (p, count, offset))
    return;
  stress.nr_reads++;
  if (memcmp (p->buf, expected, count) == 0)
    return;
  for (i = 0; p->buf[i] == expected[i]; ++i)
    ;
  peer_die (p, "byte %" PRIu64 " is %02x, must be %02x (read of %" PRIu64
            " bytes at %" PRIu64 ")", offset + i, p->buf[i], expected[i],
            count, offset);
}

/* What is said to be zero was, and the extents are in order. */
struct status_check {
  struct peer *peer;
  uint64_t offset, end;
};

static int
check_extents (void *opaque, const char *context, uint64_t offset,
               uint32_t *entries, size_t nr, int *error)
{
  struct status_check *c = opaque;
  uint64_t length, n, i;

  (void) context;
  (void) error;
  for (; nr >= 2; entries += 2, nr -= 2) {
    /* The last one may reach past what was asked for. */
    length = min_u64 (entries[0], c->end - offset);
    if (length == 0)
      peer_die (c->peer, "an empty extent at %" PRIu64, offset);
    for (; length > 0; offset += n, length -= n) {
      n = min_u64 (length, stress.max);
      if (!(entries[1] & LIBNBD_STATE_ZERO))
        continue;
      model_old (&stress.model, c->peer->expected, n, offset);
      for (i = 0; i < n; ++i)
        if (c->peer->expected[i] != 0)
          peer_die (c->peer,
                    "byte %" PRIu64 " is said to be zero, and is %02x",
                    offset + i, c->peer->expected[i]);
    }
  }
  c->offset = offset;
  return 0;
}

static void
block_status (struct peer *p, uint64_t count, uint64_t offset)
{
  struct status_check c = {
    .peer = p, .offset = offset, .end = offset + count
  };
  const nbd_extent_callback callback = {
    .callback = check_extents, .user_data = &c
  };

  while (nbd_block_status (p->nbd, count, offset, callback, 0) == -1) {
    if (peer_view_may_fail (p))
      return;
    peer_failed (p, "block status", count, offset);
  }
  if (c.offset == offset)
    peer_die (p, "no extents at %" PRIu64, offset);
}

void *
stress_reader (void *opaque)
{
  struct peer *p = opaque;
  uint64_t count, offset;

  peer_start (p);
  while (stress_continues ()) {
    count = random_length (&p->seed, min_u64 (stress.max, stress.size));
    offset = unit_random (&p->seed) % (stress.size - count + 1);
    switch (unit_random (&p->seed) % 8) {
    case 0:
      block_status (p, unit_random (&p->seed) % 4 ? count :
                    stress.size - offset, offset);
      break;
    case 1:
      if (nbd_can_cache (p->nbd) == 1 &&
          nbd_cache (p->nbd, count, offset, 0) == -1 &&
          !peer_view_may_fail (p))
        peer_failed (p, "cache", count, offset);
      break;
    default:
      model_old (&stress.model, p->expected, count, offset);
      compare (p, count, offset, p->expected);
    }
  }
  peer_end (p);
  return NULL;
}

void
stress_compare_all (const char *uri, const char *what, bool old)
{
  struct peer p = { .uri = uri, .what = what };
  uint64_t offset, n;

  peer_start (&p);
  for (offset = 0; offset < stress.size; offset += n) {
    n = min_u64 (stress.max, stress.size - offset);
    if (old)
      model_old (&stress.model, p.expected, n, offset);
    else
      memcpy (p.expected, stress.model.now + offset, n);
    compare (&p, n, offset, p.expected);
  }
  peer_end (&p);
}
