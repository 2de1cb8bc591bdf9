/* SPDX-License-Identifier: BSD-3-Clause */

/* A stress test, as a client of both servers:
 *
 *   stress-driver make FILE size=N seed=N
 *      Make the disk as it is at the moment of the snapshot.
 *   stress-driver run disk=URI snap=URI size=N seed=N [parameters]
 *      Writers change the disk at random, and readers compare the
 *      snapshot with what it must be; then all of both is compared.
 *   stress-driver idle SEGMENT
 *      Wait until no slot of the segment is in use.
 *
 * Parameters of "run":
 *   seconds=N       how long (default: 2)
 *   until=FILE      instead: until that file exists
 *   writers=N readers=N  connections of each (default: 4 and 3)
 *   blank=1         the disk was all zero at the snapshot
 *   max=N           the longest request (default: 4 MiB)
 *   reconnect=1     servers may be killed: connect again.  A change that
 *                   got no answer may or may not be on the disk.
 *   guest_errors=1  changes may fail with EIO or ENOSPC; then nothing has
 *                   changed
 *   view_errors=1   the snapshot may break: its readers get EIO
 *   backups=SEGMENT make backups meanwhile, and compare the images
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>

#include <libnbd.h>

#include "segment/segment.h"
#include "stress-backup.h"
#include "stress-oracle.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define CONNECT_SECONDS 60

static struct {
  const char *disk, *snap, *until, *backups;
  uint64_t size, seed, seconds, writers, readers, blank, max, reconnect;
  uint64_t guest_errors, view_errors;
} opt = { .seconds = 2, .writers = 4, .readers = 3, .max = 4 << 20 };

static struct model model;
static pthread_rwlock_t changing; /* see struct stress_backups */
static uint64_t deadline;
static _Atomic (uint64_t) nr_errors, nr_changes, nr_reads, nr_reconnects, slowest_ns;

/* One connection of one thread. */
struct peer {
  const char *uri;
  const char *what;             /* "writer" or "reader" */
  unsigned index;
  uint64_t seed;
  struct nbd_handle *nbd;
  unsigned char *buf, *expected; /* of opt.max bytes */
};

__attribute__ ((format (printf, 2, 3), noreturn)) static void
die (const struct peer *p, const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  fprintf (stderr, "stress: %s %u: ", p->what, p->index);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
  fflush (stderr);
  _exit (1);
}

static void
peer_connect (struct peer *p)
{
  const uint64_t give_up =
    now_monotonic_ns () + CONNECT_SECONDS * NS_PER_SEC;

  for (;;) {
    p->nbd = nbd_create ();
    if (p->nbd == NULL ||
        nbd_add_meta_context (p->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1)
      die (p, "%s", nbd_get_error ());
    if (nbd_connect_uri (p->nbd, p->uri) == 0)
      break;
    if (!opt.reconnect || now_monotonic_ns () > give_up)
      die (p, "%s", nbd_get_error ());
    nbd_close (p->nbd);
    usleep (20000);
  }
  if (nbd_get_size (p->nbd) != (int64_t) opt.size)
    die (p, "%s has %" PRIi64 " bytes", p->uri, nbd_get_size (p->nbd));
}

/* A request has failed: is it one that may? */
static bool
may_fail (const struct peer *p, bool may)
{
  const int err = nbd_get_errno ();

  if (!may || !nbd_aio_is_ready (p->nbd) || (err != EIO && err != ENOSPC))
    return false;
  nr_errors++;
  return true;
}

/* A request of a reader of the view has. */
static bool
view_may_fail (const struct peer *p)
{
  return may_fail (p, opt.view_errors && p->uri == opt.snap);
}

/* A request has failed.  If the server was killed, connect again; then
 * the caller finds out what became of the request.
 */
static void
peer_failed (struct peer *p, const char *what, uint64_t count,
             uint64_t offset)
{
  if (!opt.reconnect || nbd_aio_is_ready (p->nbd))
    die (p, "%s of %" PRIu64 " bytes at %" PRIu64 ": %s", what, count,
         offset, nbd_get_error ());
  nbd_close (p->nbd);
  peer_connect (p);
  nr_reconnects++;
}

static void
peer_start (struct peer *p)
{
  p->buf = malloc (opt.max);
  p->expected = malloc (opt.max);
  if (p->buf == NULL || p->expected == NULL)
    die (p, "no memory");
  peer_connect (p);
}

static void
peer_end (struct peer *p)
{
  nbd_shutdown (p->nbd, 0);
  nbd_close (p->nbd);
  free (p->buf);
  free (p->expected);
}

static bool
go_on (void)
{
  return opt.until ? access (opt.until, F_OK) == -1 :
    now_monotonic_ns () < deadline;
}

/* False if the view is broken, and may be. */
static bool
peer_read (struct peer *p, uint64_t count, uint64_t offset)
{
  while (nbd_pread (p->nbd, p->buf, count, offset, 0) == -1) {
    if (view_may_fail (p))
      return false;
    peer_failed (p, "read", count, offset);
  }
  return true;
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
    if (p->buf[i] != model.now[offset + i] && p->buf[i] != p->expected[i])
      die (p, "byte %" PRIu64 " of the disk is %02x, "
           "neither the old %02x nor the new %02x", offset + i, p->buf[i],
           model.now[offset + i], p->expected[i]);
  memcpy (model.now + offset, p->buf, count);
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
  uint64_t old = slowest_ns;

  while (ns > old && !atomic_compare_exchange_weak (&slowest_ns, &old, ns))
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
      if (may_fail (p, opt.guest_errors)) {
        memcpy (p->expected, model.now + offset, count);
        adopt (p, count, offset); /* still what it was */
        return;
      }
      peer_failed (p, "change", count, offset);
    }
    adopt (p, count, offset);
    return;
  }
  note_time (now_monotonic_ns () - begin);
  nr_changes++;
  /* A trim promises nothing, but it must not invent bytes. */
  if (op == TRIM)
    adopt (p, count, offset);
  else
    memcpy (model.now + offset, p->expected, count);
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
    memcpy (p->expected, model.now + offset, count);
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
  const struct areas *mine = &model.areas[p->index];
  const struct area *a = &mine->list[unit_random (&p->seed) % mine->nr];
  const uint64_t max = min_u64 (a->length, opt.max);

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

static void *
writer (void *opaque)
{
  struct peer *p = opaque;
  uint64_t count, offset;
  unsigned dice;

  peer_start (p);
  while (go_on () && model.areas[p->index].nr > 0) {
    pthread_rwlock_rdlock (&changing);
    random_range (p, &count, &offset);
    dice = unit_random (&p->seed) % 20;
    if (dice == 0 && nbd_can_flush (p->nbd) == 1) {
      if (nbd_flush (p->nbd, 0) == -1)
        peer_failed (p, "flush", 0, 0);
    }
    else if (dice < 3) {
      memcpy (p->expected, model.now + offset, count);
      adopt (p, count, offset); /* still what we wrote */
    }
    else
      random_change (p, count, offset);
    pthread_rwlock_unlock (&changing);
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
  nr_reads++;
  if (memcmp (p->buf, expected, count) == 0)
    return;
  for (i = 0; p->buf[i] == expected[i]; ++i)
    ;
  die (p, "byte %" PRIu64 " is %02x, must be %02x (read of %" PRIu64
       " bytes at %" PRIu64 ")", offset + i, p->buf[i], expected[i], count,
       offset);
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
      die (c->peer, "an empty extent at %" PRIu64, offset);
    for (; length > 0; offset += n, length -= n) {
      n = min_u64 (length, opt.max);
      if (!(entries[1] & LIBNBD_STATE_ZERO))
        continue;
      model_old (&model, c->peer->expected, n, offset);
      for (i = 0; i < n; ++i)
        if (c->peer->expected[i] != 0)
          die (c->peer, "byte %" PRIu64 " is said to be zero, and is %02x",
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
    if (view_may_fail (p))
      return;
    peer_failed (p, "block status", count, offset);
  }
  if (c.offset == offset)
    die (p, "no extents at %" PRIu64, offset);
}

static void *
reader (void *opaque)
{
  struct peer *p = opaque;
  uint64_t count, offset;

  peer_start (p);
  while (go_on ()) {
    count = random_length (&p->seed, min_u64 (opt.max, opt.size));
    offset = unit_random (&p->seed) % (opt.size - count + 1);
    switch (unit_random (&p->seed) % 8) {
    case 0:
      block_status (p, unit_random (&p->seed) % 4 ? count :
                    opt.size - offset, offset);
      break;
    case 1:
      if (nbd_can_cache (p->nbd) == 1 &&
          nbd_cache (p->nbd, count, offset, 0) == -1 && !view_may_fail (p))
        peer_failed (p, "cache", count, offset);
      break;
    default:
      model_old (&model, p->expected, count, offset);
      compare (p, count, offset, p->expected);
    }
  }
  peer_end (p);
  return NULL;
}

/* ---- The whole ---- */

static void
compare_all (const char *uri, const char *what, bool old)
{
  struct peer p = { .uri = uri, .what = what };
  uint64_t offset, n;

  peer_start (&p);
  for (offset = 0; offset < opt.size; offset += n) {
    n = min_u64 (opt.max, opt.size - offset);
    if (old)
      model_old (&model, p.expected, n, offset);
    else
      memcpy (p.expected, model.now + offset, n);
    compare (&p, n, offset, p.expected);
  }
  peer_end (&p);
}

/* Those who wait for all writers come first, or they would wait for ever. */
static void
init_changing (void)
{
  pthread_rwlockattr_t attr;

  pthread_rwlockattr_init (&attr);
  pthread_rwlockattr_setkind_np
    (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init (&changing, &attr);
  pthread_rwlockattr_destroy (&attr);
}

static int
run (void)
{
  struct stress_backups backups = {
    .segment = opt.backups, .snap = opt.snap, .model = &model,
    .seed = opt.seed, .go_on = go_on, .change = &changing,
  };
  pthread_t backup_thread;
  const unsigned nr = opt.writers + opt.readers;
  struct peer *peers = calloc (nr, sizeof *peers);
  pthread_t *threads = calloc (nr, sizeof *threads);
  unsigned i;

  CHECK (opt.size > 0 && opt.max > 0 && peers != NULL && threads != NULL);
  deadline = now_monotonic_ns () + opt.seconds * NS_PER_SEC;
  init_changing ();
  if (opt.backups)
    CHECK (pthread_create (&backup_thread, NULL, stress_backups_run,
                           &backups) == 0);
  for (i = 0; i < nr; ++i) {
    peers[i] = i < opt.writers ?
      (struct peer) { .uri = opt.disk, .what = "writer", .index = i } :
      (struct peer) { .uri = opt.snap, .what = "reader",
                      .index = i - opt.writers };
    peers[i].seed = opt.seed * 1000 + i;
    CHECK (pthread_create (&threads[i], NULL,
                           i < opt.writers ? writer : reader,
                           &peers[i]) == 0);
  }
  for (i = 0; i < nr; ++i)
    pthread_join (threads[i], NULL);
  if (opt.backups) {
    pthread_join (backup_thread, NULL);
    printf ("%" PRIu64 " backups complete, %" PRIu64 " cancelled\n",
            backups.complete, backups.cancelled);
  }
  printf ("%" PRIu64 " changes, the slowest took %" PRIu64 " ms; %" PRIu64
          " reads; %" PRIu64 " reconnections\n", nr_changes,
          slowest_ns / NS_PER_MS, nr_reads, nr_reconnects);
  compare_all (opt.disk, "the disk", false);
  compare_all (opt.snap, "the snapshot", true);
  free (peers);
  free (threads);
  return 0;
}

/* After clients were killed: the filter must have got their slots back. */
static int
idle (const char *path)
{
  const uint64_t give_up = now_monotonic_ns () + 10 * NS_PER_SEC;
  struct segment s = SEGMENT_INIT;
  struct error e;
  unsigned i, used;

  if (segment_attach (&s, path, &e) == -1) {
    fprintf (stderr, "stress: %s\n", e.msg);
    return 1;
  }
  do {
    usleep (20000);
    for (i = used = 0; i < CBW_NR_SLOTS; ++i)
      used += atomic_load (&map_slot (&s.map, i)->state) != 0;
  } while (used > 0 && now_monotonic_ns () < give_up);
  segment_close (&s, false);
  if (used > 0)
    fprintf (stderr, "stress: %u slots are still in use\n", used);
  return used > 0;
}

static void
parse (const char *arg)
{
  static const struct { const char *key; const char **s; uint64_t *n; } t[] = {
    { "disk=", &opt.disk, NULL }, { "snap=", &opt.snap, NULL },
    { "until=", &opt.until, NULL }, { "backups=", &opt.backups, NULL },
    { "size=", NULL, &opt.size },
    { "seed=", NULL, &opt.seed }, { "seconds=", NULL, &opt.seconds },
    { "writers=", NULL, &opt.writers }, { "readers=", NULL, &opt.readers },
    { "blank=", NULL, &opt.blank }, { "max=", NULL, &opt.max },
    { "reconnect=", NULL, &opt.reconnect },
    { "guest_errors=", NULL, &opt.guest_errors },
    { "view_errors=", NULL, &opt.view_errors },
  };
  size_t i, len;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    len = strlen (t[i].key);
    if (strncmp (arg, t[i].key, len) != 0)
      continue;
    if (t[i].s)
      *t[i].s = arg + len;
    else
      *t[i].n = strtoull (arg + len, NULL, 10);
    return;
  }
  fprintf (stderr, "stress: unknown parameter: %s\n", arg);
  exit (1);
}

int
main (int argc, char *argv[])
{
  const char *command = argc > 1 ? argv[1] : "";
  const bool file = strcmp (command, "run") != 0;
  int i, r = 0;

  if (argc < 3) {
    fprintf (stderr, "usage: stress-driver make|run|idle ... "
             "(see stress-driver.c)\n");
    return 1;
  }
  if (strcmp (command, "idle") == 0)
    return idle (argv[2]);
  for (i = file ? 3 : 2; i < argc; ++i)
    parse (argv[i]);
  model_init (&model, opt.size, opt.seed, opt.blank, opt.writers);
  if (file)
    model_make_file (&model, argv[2]);
  else
    r = run ();
  model_free (&model);
  return r;
}
