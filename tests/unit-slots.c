/* SPDX-License-Identifier: BSD-3-Clause */

/* The request list: every step alone, then clients and servers that are
 * killed while they turn it.
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

#include "segment/liveness.h"
#include "segment/segment-server.h"
#include "segment/slots.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/futex.h"

static char *dir, *path;
static struct segment segment;
static struct cbw_map *m = &segment.map;

static void
start (void)
{
  struct error e;

  segment = (struct segment) SEGMENT_INIT;
  CHECK (segment_serve (&segment, path, 1 << 20, 4096, 0, &e) == 0);
}

static void
end (void)
{
  segment_close (&segment, true);
}

static uint32_t
word (unsigned i)
{
  return atomic_load (&map_slot (m, i)->state);
}

static enum slot_state
state (unsigned i)
{
  return word (i) & SLOT_STATE_MASK;
}

static void
set_word (unsigned i, enum slot_state s, uint32_t owner)
{
  atomic_store (&map_slot (m, i)->state, s | owner << SLOT_OWNER_SHIFT);
}

static unsigned
count_used (void)
{
  unsigned i, n = 0;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    n += word (i) != 0;
  return n;
}

static bool
alive (void *opaque, unsigned client)
{
  return *(uint64_t *) opaque >> client & 1;
}

static const uint32_t me = 1 << 6 | 3; /* client 3, incarnation 1 */

static void
test_round (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  CHECK (i >= 0);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  CHECK_EQ (slot_take (m, &cursor), -1);
  slot_submit (m, i, me);
  slots_ring (m);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_TIMEOUT);
  CHECK_EQ (slot_take (m, &cursor), i);
  CHECK_EQ (state (i), SLOT_RUNNING);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_TIMEOUT);
  slot_complete (m, i);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_DONE);
  slot_abandon (m, i, me);
  CHECK_EQ (count_used (), 0);
  end ();
}

/* A thread waits for its reply; the slot is taken back, and another thread of
 * the same client claims it.  The first must not touch it: the second could
 * not submit it, and would wait for ever.
 */
static void
test_claimed_again (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  CHECK (i >= 0);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_complete (m, i);
  CHECK (slot_finish (m, i, me)); /* as the server does it */
  cursor = 0;
  CHECK_EQ (slot_claim (m, me, false), i);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  slot_submit (m, i, me);
  CHECK_EQ (state (i), SLOT_SUBMITTED);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_complete (m, i);
  CHECK (slot_finish (m, i, me));
  CHECK_EQ (count_used (), 0);
  end ();
}

static void
test_full (void)
{
  uint32_t seen;
  unsigned n;

  start ();
  for (n = 0; n < SLOTS_FOR_ALL; ++n)
    CHECK_EQ (slot_claim (m, me, false), n);
  seen = atomic_load (&map_doorbell (m)->freed);
  CHECK_EQ (slot_claim (m, me, false), -1);
  slot_wait_free (m, seen, NS_PER_MS); /* in vain */
  slot_abandon (m, 17, me);
  slot_wait_free (m, seen, 100 * NS_PER_SEC); /* missed no ring */
  CHECK_EQ (slot_claim (m, me, false), 17);
  end ();
}

/* The last slots are for control requests, which take others while there
 * are some.
 */
static void
test_kept_for_control (void)
{
  uint32_t seen;
  unsigned n;

  start ();
  CHECK_EQ (slot_claim (m, me, true), 0);
  for (n = 1; n < SLOTS_FOR_ALL; ++n)
    CHECK_EQ (slot_claim (m, me, false), n);
  CHECK_EQ (slot_claim (m, me, false), -1);
  for (; n < CBW_NR_SLOTS; ++n)
    CHECK_EQ (slot_claim (m, me, true), n);
  CHECK_EQ (slot_claim (m, me, true), -1);
  seen = atomic_load (&map_doorbell (m)->freed);
  slot_abandon (m, 61, me);
  slot_wait_free (m, seen, 100 * NS_PER_SEC); /* missed no ring */
  CHECK_EQ (slot_claim (m, me, false), -1);
  CHECK_EQ (slot_claim (m, me, true), 61);
  end ();
}

/* The reply has been copied, and the slot was ours until then, or not. */
static void
test_finish (void)
{
  const uint32_t other = 2 << 6 | 3;
  uint32_t seen;

  start ();
  set_word (5, SLOT_DONE, me);
  seen = atomic_load (&map_doorbell (m)->freed);
  CHECK (!slot_finish (m, 5, other));
  CHECK_EQ (state (5), SLOT_DONE);
  CHECK (slot_finish (m, 5, me));
  CHECK_EQ (word (5), SLOT_FREE);
  CHECK_EQ (atomic_load (&map_doorbell (m)->freed), seen + 1);
  CHECK (!slot_finish (m, 5, me)); /* taken back */
  CHECK_EQ (word (5), SLOT_FREE);
  set_word (5, SLOT_CLAIMED, me);
  CHECK (!slot_finish (m, 5, me)); /* another thread's of ours */
  set_word (5, SLOT_DONE, other);
  CHECK (!slot_finish (m, 5, me));
  CHECK_EQ (state (5), SLOT_DONE);
  end ();
}

/* Fill the slots [0, n): of each three one is CLAIMED, RUNNING, DONE. */
static void
fill_slots (unsigned n)
{
  static const enum slot_state states[] = {
    SLOT_CLAIMED, SLOT_RUNNING, SLOT_DONE
  };
  unsigned i;

  for (i = 0; i < n; ++i)
    set_word (i, states[i % 3], me);
}

/* Replies that are left lying are taken back if slots are scarce; nothing
 * else is.
 */
static void
test_take_back (void)
{
  const unsigned many = SLOTS_FOR_ALL - SLOTS_FEW;
  struct slots_seen seen = { { 0 }, { 0 } };
  uint64_t now = 7 * NS_PER_SEC;
  unsigned i;

  start ();
  fill_slots (many);
  CHECK (!slots_are_scarce (m));
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  now += 10 * SLOT_PATIENCE;
  CHECK_EQ (slots_take_back (m, &seen, now), 0); /* there are enough */
  CHECK_EQ (count_used (), many);

  set_word (many, SLOT_SUBMITTED, me);
  set_word (many + 1, SLOT_SUBMITTED, me);
  CHECK (slots_are_scarce (m));
  set_word (2, SLOT_DONE, 2 << 6 | 3); /* a new one, just now */
  CHECK_EQ (slots_take_back (m, &seen, now), many / 3 - 1);
  for (i = 0; i < many; ++i)
    CHECK_EQ (state (i), i == 2 ? SLOT_DONE :
              i % 3 == 0 ? SLOT_CLAIMED : i % 3 == 1 ? SLOT_RUNNING :
              SLOT_FREE);
  CHECK_EQ (state (many), SLOT_SUBMITTED);

  fill_slots (many);            /* again */
  set_word (2, SLOT_DONE, 2 << 6 | 3);
  now += SLOT_PATIENCE - 1;
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  CHECK_EQ (slots_take_back (m, &seen, now + 1), 1);
  CHECK_EQ (word (2), SLOT_FREE); /* the one that was there before */
  CHECK_EQ (slots_take_back (m, &seen, now + SLOT_PATIENCE), many / 3 - 1);
  end ();
}

/* Of those kept for control too, if few of them are free. */
static void
test_take_back_control (void)
{
  struct slots_seen seen = { { 0 }, { 0 } };
  uint64_t now = 7 * NS_PER_SEC;

  start ();
  set_word (0, SLOT_DONE, me);
  set_word (SLOTS_FOR_ALL, SLOT_DONE, me);
  set_word (SLOTS_FOR_ALL + 1, SLOT_DONE, me);
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  now += SLOT_PATIENCE;
  CHECK_EQ (slots_take_back (m, &seen, now), 0);
  set_word (SLOTS_FOR_ALL + 3, SLOT_RUNNING, me);
  CHECK_EQ (slots_take_back (m, &seen, now), 2);
  CHECK_EQ (state (0), SLOT_DONE);
  CHECK_EQ (count_used (), 2);
  end ();
}

static void
test_held (void)
{
  const uint32_t other = 2 << 6 | 3;

  start ();
  CHECK_EQ (slots_held (m, me), 0);
  fill_slots (9);
  set_word (4, SLOT_DONE, other);
  set_word (60, SLOT_SUBMITTED, me);
  CHECK_EQ (slots_held (m, me), 9);
  CHECK_EQ (slots_held (m, other), 1);
  end ();
}

/* No slot starves: all are taken before one is taken twice. */
static void
test_cursor (void)
{
  unsigned cursor = 0, n;
  uint64_t taken = 0;
  int i;

  start ();
  for (n = 0; n < CBW_NR_SLOTS; ++n)
    slot_submit (m, slot_claim (m, me, true), me);
  for (n = 0; n < CBW_NR_SLOTS; ++n) {
    i = slot_take (m, &cursor);
    CHECK (i >= 0 && !(taken >> i & 1));
    taken |= UINT64_C (1) << i;
    slot_complete (m, i);
    slot_abandon (m, i, me);
    slot_submit (m, slot_claim (m, me, true), me);
  }
  end ();
}

/* Only the owner's doings count. */
static void
test_not_mine (void)
{
  const uint32_t other = 2 << 6 | 3; /* the next client in that entry */
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, other);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  slot_abandon (m, i, other);
  CHECK_EQ (state (i), SLOT_CLAIMED);
  CHECK (slot_wait (m, i, other, NS_PER_MS) == SLOT_WAIT_LOST);
  slot_abandon (m, i, me);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  CHECK_EQ (slot_take (m, &cursor), -1);
  end ();
}

/* Abandoned where the filter has it or may get it: it is not free for
 * others before the filter has let go of it.
 */
static void
test_abandon_submitted (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  slot_abandon (m, i, me);
  CHECK_EQ (state (i), SLOT_SUBMITTED);
  CHECK (slot_wait (m, i, me, NS_PER_MS) == SLOT_WAIT_LOST);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (count_used (), 0);
  end ();
}

static void
test_abandon_running (void)
{
  unsigned cursor = 0;
  uint64_t all = UINT64_MAX;
  int i, j;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i);
  slot_abandon (m, i, me);
  CHECK_EQ (state (i), SLOT_RUNNING);
  j = slot_claim (m, me, false);
  CHECK (j >= 0 && j != i);
  CHECK_EQ (slots_reap (m, alive, &all), 1); /* j: no such client */
  slot_complete (m, i);
  CHECK_EQ (count_used (), 0);
  end ();
}

/* The server died, the client gives up, a new server comes; whatever the
 * order, the slot is free in the end and nobody else had it meanwhile.
 */
static void
test_abandon_and_recover (void)
{
  unsigned cursor = 0;
  int i;

  start ();
  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i); /* and dies */
  slots_recover (m);
  CHECK_EQ (slot_take (m, &cursor), i); /* the new one runs it */
  slot_abandon (m, i, me);      /* for the client the server was dead */
  CHECK_EQ (state (i), SLOT_RUNNING);
  slot_complete (m, i);
  CHECK_EQ (count_used (), 0);

  i = slot_claim (m, me, false);
  slot_submit (m, i, me);
  CHECK_EQ (slot_take (m, &cursor), i); /* and dies */
  slot_abandon (m, i, me);
  slots_recover (m);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (count_used (), 0);
  end ();
}

/* What a server left: requests are run again, replies stay, nonsense
 * goes.
 */
static void
test_recover (void)
{
  unsigned cursor = 0, i;

  start ();
  set_word (0, SLOT_CLAIMED, me);
  set_word (1, SLOT_SUBMITTED, me);
  set_word (2, SLOT_RUNNING, me);
  set_word (3, SLOT_DONE, me);
  set_word (4, SLOT_FREE, me);
  for (i = 5; i < 20; ++i)
    set_word (i, SLOT_DONE + 1 + i, me);
  atomic_fetch_or (&map_slot (m, 2)->state, SLOT_WAITED);
  atomic_store (&map_doorbell (m)->pending, UINT64_C (0xff00));
  atomic_store (&map_header (m)->idle_threads, 12345);

  slots_recover (m);
  CHECK_EQ (map_header (m)->idle_threads, 0);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  CHECK_EQ (state (3), SLOT_DONE);
  for (i = 4; i < CBW_NR_SLOTS; ++i)
    CHECK_EQ (word (i), SLOT_FREE);
  CHECK_EQ (slot_take (m, &cursor), 1);
  CHECK_EQ (slot_take (m, &cursor), 2);
  CHECK (word (2) & SLOT_WAITED); /* its owner still sleeps */
  CHECK_EQ (slot_take (m, &cursor), -1);
  end ();
}

static void
test_reap (void)
{
  uint64_t living = 1 << 3;
  unsigned cursor = 0;

  start ();
  map_client (m, 3)->incarnation = 1;
  map_client (m, 4)->incarnation = 9;
  set_word (0, SLOT_CLAIMED, slot_owner (3, 1)); /* alive */
  set_word (1, SLOT_CLAIMED, slot_owner (3, 0)); /* its predecessor */
  set_word (2, SLOT_SUBMITTED, slot_owner (4, 9)); /* dead */
  set_word (3, SLOT_RUNNING, slot_owner (4, 9));
  set_word (4, SLOT_DONE, slot_owner (4, 9));
  set_word (5, 0x55, slot_owner (4, 9));
  CHECK_EQ (slots_reap (m, alive, &living), 4);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  CHECK_EQ (state (3), SLOT_RUNNING); /* not while a thread has it */
  CHECK_EQ (count_used (), 2);
  slot_complete (m, 3);
  CHECK_EQ (slots_reap (m, alive, &living), 1);
  CHECK_EQ (count_used (), 1);

  /* A pending bit that was left behind does no harm. */
  atomic_store (&map_doorbell (m)->pending, UINT64_C (1) << 2 | 1);
  CHECK_EQ (slot_take (m, &cursor), -1);
  CHECK_EQ (state (0), SLOT_CLAIMED);
  end ();
}

/* Owner tags have 24 bits, and different ones for different clients. */
static void
test_owner (void)
{
  CHECK (slot_owner (0, 1) != SLOT_OWNER_NONE);
  CHECK (slot_owner (5, 1) != slot_owner (5, 2));
  CHECK_EQ (slot_owner (63, UINT32_MAX), 0xffffff);
}

/* ---- Processes ---- */

#define CLIENTS 4
#define CLIENT_THREADS 2
#define SERVER_THREADS 2
#define KILLS 60

struct shared {
  _Atomic (bool) stop, first_ended;
  _Atomic (unsigned) generation; /* of the servers */
  _Atomic (uint64_t) replies;
};
static struct shared *shared;

static struct {
  unsigned index;
  uint32_t owner;
  int fd;
} client;

static int
open_segment (void)
{
  const int fd = open (path, O_RDWR | O_CLOEXEC);

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
    /* Who is held up here must not hold up who comes after. */
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
    /* Now and then one that cannot end before the others have gone on. */
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
  CHECK_EQ (count_used (), 0);
  munmap (shared, sizeof *shared);
  close (fd);
  end ();
}

int
main (void)
{
  unit_start ();
  dir = unit_tmpdir ();
  CHECK (asprintf (&path, "%s/shm", dir) != -1);
  RUN (test_round);
  RUN (test_claimed_again);
  RUN (test_full);
  RUN (test_kept_for_control);
  RUN (test_finish);
  RUN (test_take_back);
  RUN (test_take_back_control);
  RUN (test_held);
  RUN (test_cursor);
  RUN (test_not_mine);
  RUN (test_abandon_submitted);
  RUN (test_abandon_running);
  RUN (test_abandon_and_recover);
  RUN (test_recover);
  RUN (test_reap);
  RUN (test_owner);
  RUN (test_no_ring_is_lost);
  RUN (test_processes);
  free (path);
  unit_rmdir (dir);
  return unit_end ();
}
