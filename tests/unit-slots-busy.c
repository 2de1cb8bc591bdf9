/* SPDX-License-Identifier: BSD-3-Clause */

/* The request list under load: no ring is lost, and clients and servers may
 * be killed while they turn it.
 */

#include <config.h>

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "segment-env.h"
#include "segment/liveness.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/futex.h"

static struct segment segment;
static struct cbw_map *m = &segment.map;

static void
start (void)
{
  segment_env_start ();
  segment_env_serve (&segment, 1 << 20, 4096);
}

static void
end (void)
{
  segment_close (&segment, true);
  segment_env_end ();
}

struct shared {
  _Atomic (bool) stop, first_ended;
  _Atomic (unsigned) generation; /* of the servers */
  _Atomic (uint64_t) replies;
};
static struct shared *shared;

/* ---- Threads ---- */

/* Nothing times out here: if one ring is lost, the test hangs. */
#define PATIENCE (UNIT_TIMEOUT * NS_PER_SEC)
#define RINGS 20000

static void *
patient_server (void *opaque)
{
  unsigned cursor = 0;
  int i;

  (void) opaque;
  while (!atomic_load (&shared->stop)) {
    i = slot_take (m, &cursor);
    if (i == -1) {
      slots_wait_submitted (m, PATIENCE);
      continue;
    }
    /* A thread that is held up here must not hold up the others. */
    if (map_slot (m, i)->kind == 1)
      while (atomic_load (&shared->replies) <
             (unsigned) map_slot (m, i)->offset)
        sched_yield ();
    slot_complete (m, i);
  }
  return NULL;
}

static void *
patient_client (void *opaque)
{
  const uintptr_t index = (uintptr_t) opaque;
  const uint32_t owner = slot_owner ((unsigned) index, 1);
  unsigned n;
  int i;

  for (n = 0; index == 0 ? n < RINGS : !atomic_load (&shared->first_ended);
       ++n) {
    i = slot_claim (m, owner, false);
    CHECK (i >= 0);
    /* Now and then one that cannot end before the others have continued. */
    map_slot (m, i)->kind = index == 0 && n % 64 == 0;
    map_slot (m, i)->offset = atomic_load (&shared->replies) + 8;
    slot_submit (m, i, owner);
    slots_ring (m);
    CHECK_EQ (slot_wait (m, i, owner, PATIENCE), SLOT_WAIT_DONE);
    slot_abandon (m, i, owner);
    atomic_fetch_add (&shared->replies, 1);
  }
  return NULL;
}

static void
test_no_ring_is_lost (void)
{
  pthread_t clients[4], servers[3];
  uintptr_t i;

  start ();
  shared = calloc (1, sizeof *shared);
  CHECK (shared != NULL);
  for (i = 0; i < 3; ++i)
    pthread_create (&servers[i], NULL, patient_server, NULL);
  for (i = 0; i < 4; ++i)
    pthread_create (&clients[i], NULL, patient_client, (void *) i);
  pthread_join (clients[0], NULL);
  atomic_store (&shared->first_ended, true);
  for (i = 1; i < 4; ++i)
    pthread_join (clients[i], NULL);
  atomic_store (&shared->stop, true);
  atomic_fetch_add (&map_doorbell (m)->submitted, 1);
  futex_wake (&map_doorbell (m)->submitted, INT_MAX);
  for (i = 0; i < 3; ++i)
    pthread_join (servers[i], NULL);
  free (shared);
  end ();
}

/* ---- Processes ---- */

#define CLIENTS 4
#define CLIENT_THREADS 2
#define SERVER_THREADS 2
#define KILLS 60

static struct {
  unsigned index;
  uint32_t owner;
  int fd;
} client;

static int
open_segment (void)
{
  const int fd = open (segment_env.path, O_RDWR | O_CLOEXEC);

  CHECK (fd >= 0);
  return fd;
}

/* A request is two numbers, and the answer one made from both, many
 * times: any mixing of requests is seen.
 */
#define ANSWERS 32

static uint64_t
answer (const struct cbw_slot *slot, unsigned i)
{
  return (slot->offset ^ slot->length * 0x9e3779b97f4a7c15) + i;
}

static void
one_request (uint64_t *seed)
{
  uint64_t offset = unit_random (seed), length = unit_random (seed), *buf;
  uint32_t seen = atomic_load (&map_doorbell (m)->freed);
  int i = slot_claim (m, client.owner, false);
  enum slot_wait r;
  unsigned j;

  if (i == -1) {
    slot_wait_free (m, seen, 100 * NS_PER_MS);
    return;
  }
  map_slot (m, i)->offset = offset;
  map_slot (m, i)->length = length;
  slot_submit (m, i, client.owner);
  slots_ring (m);
  do {
    r = slot_wait (m, i, client.owner, 20 * NS_PER_MS);
    CHECK (r != SLOT_WAIT_LOST);
  } while (r == SLOT_WAIT_TIMEOUT && unit_random (seed) % 4 != 0);
  if (r == SLOT_WAIT_DONE) {
    buf = map_buffer (m, i);
    for (j = 0; j < ANSWERS; ++j)
      CHECK_EQ (buf[j], answer (map_slot (m, i), j));
    CHECK_EQ (map_slot (m, i)->offset, offset);
    CHECK_EQ (map_slot (m, i)->length, length);
    atomic_fetch_add (&shared->replies, 1);
  }
  slot_abandon (m, i, client.owner);
}

static void *
client_thread (void *opaque)
{
  uint64_t seed = (uintptr_t) opaque ^ (uint64_t) getpid () << 8;

  while (!atomic_load (&shared->stop))
    one_request (&seed);
  return NULL;
}

static void *
server_thread (void *opaque)
{
  unsigned cursor = 0, j;
  uint64_t *buf;
  int i;

  (void) opaque;
  while (!atomic_load (&shared->stop)) {
    i = slot_take (m, &cursor);
    if (i == -1) {
      slots_wait_submitted (m, 10 * NS_PER_MS);
      continue;
    }
    buf = map_buffer (m, i);
    for (j = 0; j < ANSWERS; ++j)
      buf[j] = answer (map_slot (m, i), j);
    slot_complete (m, i);
  }
  return NULL;
}

static void
run_threads (void *(*thread) (void *), unsigned n)
{
  pthread_t threads[8];
  uintptr_t i;

  for (i = 0; i < n; ++i)
    pthread_create (&threads[i], NULL, thread, (void *) i);
  for (i = 0; i < n; ++i)
    pthread_join (threads[i], NULL);
  _exit (0);
}

static pid_t
start_process (void)
{
  const pid_t pid = fork ();

  CHECK (pid >= 0);
  if (pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    alarm (UNIT_TIMEOUT);
  }
  return pid;
}

static pid_t
start_client (unsigned i)
{
  const pid_t pid = start_process ();

  if (pid == 0) {
    client.index = i;
    client.fd = open_segment ();
    CHECK_EQ (liveness_take_client (client.fd, i), 1);
    client.owner =
      slot_owner (i, atomic_fetch_add (&map_client (m, i)->incarnation, 1)
                  + 1);
    run_threads (client_thread, CLIENT_THREADS);
  }
  return pid;
}

static pid_t
start_server (void)
{
  const pid_t pid = start_process ();

  if (pid == 0) {
    slots_recover (m);
    atomic_fetch_add (&shared->generation, 1);
    run_threads (server_thread, SERVER_THREADS);
  }
  return pid;
}

static void
kill_process (pid_t pid)
{
  kill (pid, SIGKILL);
  CHECK (waitpid (pid, NULL, 0) == pid);
}

static void
end_process (pid_t pid)
{
  int status;

  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK (WIFEXITED (status) && WEXITSTATUS (status) == 0);
}

static bool
client_lives (void *opaque, unsigned i)
{
  return liveness_client (*(int *) opaque, i);
}

static void
test_processes (void)
{
  pid_t clients[CLIENTS], server;
  uint64_t seed = 1;
  unsigned i, n, cursor = 0;
  int fd;

  start ();
  shared = mmap (NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK (shared != MAP_FAILED);
  server = start_server ();
  for (i = 0; i < CLIENTS; ++i)
    clients[i] = start_client (i);
  fd = open_segment ();

  for (n = 0; n < KILLS; ++n) {
    usleep (unit_random (&seed) % 20000);
    if (unit_random (&seed) % 3 == 0) {
      kill_process (server);
      usleep (unit_random (&seed) % 3000);
      server = start_server ();
    }
    else {
      i = unit_random (&seed) % CLIENTS;
      kill_process (clients[i]);
      usleep (unit_random (&seed) % 3000);
      clients[i] = start_client (i);
    }
    slots_reap (m, client_lives, &fd);
  }

  atomic_store (&shared->stop, true);
  for (i = 0; i < CLIENTS; ++i)
    end_process (clients[i]);
  end_process (server);
  CHECK (atomic_load (&shared->generation) > 1);
  CHECK (atomic_load (&shared->replies) > KILLS);

  /* Nothing leaks: what is left is the dead ones', and is reaped once the
   * next server has come.
   */
  slots_recover (m);
  while (slot_take (m, &cursor) != -1)
    ;
  for (i = 0; i < CBW_NR_SLOTS; ++i)
    slot_complete (m, i);
  slots_reap (m, client_lives, &fd);
  CHECK_EQ (slots_used (m), 0);
  munmap (shared, sizeof *shared);
  close (fd);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_no_ring_is_lost);
  RUN (test_processes);
  return unit_end ();
}
