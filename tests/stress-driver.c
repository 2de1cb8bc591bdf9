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

#include "segment/segment.h"
#include "stress-backup.h"
#include "stress-peer.h"
#include "stress-work.h"
#include "unit.h"
#include "utils/clock.h"

/* A thread that waits for all writers comes first, or it would wait for
 * ever.
 */
static void
init_changing (void)
{
  pthread_rwlockattr_t attr;

  pthread_rwlockattr_init (&attr);
  pthread_rwlockattr_setkind_np
    (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init (&stress.changing, &attr);
  pthread_rwlockattr_destroy (&attr);
}

static int
run (void)
{
  struct stress_backups backups = {
    .segment = stress.backups, .snap = stress.snap, .model = &stress.model,
    .seed = stress.seed, .go_on = stress_continues, .change = &stress.changing,
  };
  pthread_t backup_thread;
  const unsigned nr = stress.writers + stress.readers;
  struct peer *peers = calloc (nr, sizeof *peers);
  pthread_t *threads = calloc (nr, sizeof *threads);
  unsigned i;

  CHECK (stress.size > 0 && stress.max > 0);
  CHECK (peers != NULL && threads != NULL);
  stress.deadline = now_monotonic_ns () + stress.seconds * NS_PER_SEC;
  init_changing ();
  if (stress.backups)
    CHECK (pthread_create (&backup_thread, NULL, stress_backups_run,
                           &backups) == 0);
  for (i = 0; i < nr; ++i) {
    peers[i] = i < stress.writers ?
      (struct peer) { .uri = stress.disk, .what = "writer", .index = i } :
      (struct peer) { .uri = stress.snap, .what = "reader",
                      .index = i - stress.writers };
    peers[i].seed = stress.seed * 1000 + i;
    CHECK (pthread_create (&threads[i], NULL,
                           i < stress.writers ? stress_writer : stress_reader,
                           &peers[i]) == 0);
  }
  for (i = 0; i < nr; ++i)
    pthread_join (threads[i], NULL);
  if (stress.backups) {
    pthread_join (backup_thread, NULL);
    printf ("%" PRIu64 " backups complete, %" PRIu64 " cancelled\n",
            backups.complete, backups.cancelled);
  }
  printf ("%" PRIu64 " changes, the slowest took %" PRIu64 " ms; %" PRIu64
          " reads; %" PRIu64 " reconnections\n", stress.nr_changes,
          stress.slowest_ns / NS_PER_MS, stress.nr_reads,
          stress.nr_reconnects);
  stress_compare_all (stress.disk, "the disk", false);
  stress_compare_all (stress.snap, "the snapshot", true);
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
    { "disk=", &stress.disk, NULL }, { "snap=", &stress.snap, NULL },
    { "until=", &stress.until, NULL }, { "backups=", &stress.backups, NULL },
    { "size=", NULL, &stress.size },
    { "seed=", NULL, &stress.seed }, { "seconds=", NULL, &stress.seconds },
    { "writers=", NULL, &stress.writers },
    { "readers=", NULL, &stress.readers },
    { "blank=", NULL, &stress.blank }, { "max=", NULL, &stress.max },
    { "reconnect=", NULL, &stress.reconnect },
    { "guest_errors=", NULL, &stress.guest_errors },
    { "view_errors=", NULL, &stress.view_errors },
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
  model_init (&stress.model, stress.size, stress.seed, stress.blank,
              stress.writers);
  if (file)
    model_make_file (&stress.model, argv[2]);
  else
    r = run ();
  model_free (&stress.model);
  return r;
}
