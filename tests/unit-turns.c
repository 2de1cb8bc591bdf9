/* SPDX-License-Identifier: BSD-3-Clause */

/* Large reads take turns while guests write, and only then; of several
 * processes, too, whatever these do.
 */

#include <config.h>

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "segment/turns.h"
#include "unit.h"

#define LARGE TURNS_LARGE

static struct cbw_map map;

/* In place of the C library's: how often was a turn waited for? */
static _Atomic (unsigned) waits;

long
syscall (long number, ...)
{
  static long (*_Atomic real) (long number, ...);
  long (*call) (long number, ...) = real;
  long a[6];
  va_list ap;
  unsigned i;

  va_start (ap, number);
  for (i = 0; i < 6; ++i)
    a[i] = va_arg (ap, long);
  va_end (ap);
  waits += number == SYS_futex && a[1] == FUTEX_WAIT;
  if (call == NULL) {
    *(void **) &call = dlsym (RTLD_NEXT, "syscall");
    real = call;
  }
  return call (number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static struct cbw_doorbell *
bell (void)
{
  return map_doorbell (&map);
}

static void
set_guests (bool write)
{
  atomic_store (&map_header (&map)->guests_write, write);
}

/* Memory for a header and a doorbell, shared with children. */
static void
start (void)
{
  map.geometry.doorbell_offset = CBW_PAGE;
  map.base = mmap (NULL, 2 * CBW_PAGE, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK (map.base != MAP_FAILED);
  set_guests (true);
  waits = 0;
}

static void
end (void)
{
  munmap (map.base, 2 * CBW_PAGE);
}

/* ---- Tests ---- */

static void
test_who (void)
{
  uint64_t turn;

  start ();
  set_guests (false);
  CHECK_EQ (turns_begin (&map, LARGE), 0);
  set_guests (true);
  CHECK_EQ (turns_begin (&map, LARGE - 1), 0);
  turn = turns_begin (&map, LARGE);
  CHECK (turn != 0);
  CHECK_EQ (turns_begin (&map, 4096), 0); /* small ones need none */
  CHECK_EQ (atomic_load (&bell ()->turn), turn);
  turns_end (&map, 0);
  CHECK_EQ (atomic_load (&bell ()->turn), turn);
  turns_end (&map, turn);
  CHECK_EQ (atomic_load (&bell ()->turn), 0);
  CHECK_EQ (waits, 0);
  end ();
}

/* What can be nobody's turn, or is over, is not waited for. */
static void
test_garbage (void)
{
  const uint64_t now = now_monotonic_ns ();
  const uint64_t words[] = {
    1, now - 1, now + 1000 * NS_PER_SEC, UINT64_MAX, UINT64_MAX - TURNS_LEASE
  };
  uint64_t turn;
  unsigned i;

  start ();
  for (i = 0; i < sizeof words / sizeof words[0]; ++i) {
    atomic_store (&bell ()->turn, words[i]);
    turn = turns_begin (&map, LARGE);
    CHECK_EQ (waits, 0);
    CHECK_EQ (atomic_load (&bell ()->turn), turn);
    turns_end (&map, turn);
  }
  atomic_store (&bell ()->turn, now_monotonic_ns () + TURNS_LEASE);
  turn = turns_begin (&map, LARGE);
  CHECK (waits > 0);            /* but this is waited for */
  turns_end (&map, turn);
  end ();
}

/* In memory that is shared with children. */
struct count { _Atomic (unsigned) inside, overlaps, had; };

static void *
reader (void *opaque)
{
  struct count *c = opaque;
  unsigned n, now;
  uint64_t turn;

  for (n = 0; n < 50; ++n) {
    turn = turns_begin (&map, LARGE);
    CHECK (turn != 0);
    now = atomic_fetch_add (&c->inside, 1) + 1;
    c->overlaps += now > 1;
    c->had++;
    usleep (100);
    atomic_fetch_sub (&c->inside, 1);
    turns_end (&map, turn);
  }
  return NULL;
}

static void
run_child (void)
{
  reader (map.base + CBW_PAGE + 512);
  _exit (0);
}

/* Two threads here, and two processes. */
static void
test_one_at_a_time (void)
{
  struct count *c;
  pthread_t threads[2];
  pid_t children[2];
  unsigned i;
  int status;

  start ();
  c = (struct count *) (map.base + CBW_PAGE + 512);
  for (i = 0; i < 2; ++i)
    if ((children[i] = fork ()) == 0)
      run_child ();
  for (i = 0; i < 2; ++i)
    CHECK (pthread_create (&threads[i], NULL, reader, c) == 0);
  for (i = 0; i < 2; ++i)
    pthread_join (threads[i], NULL);
  for (i = 0; i < 2; ++i) {
    CHECK (waitpid (children[i], &status, 0) == children[i]);
    CHECK_EQ (status, 0);
  }
  CHECK_EQ (c->had, 200);
  CHECK (c->overlaps <= c->had / 8); /* of those that were held up themselves */
  CHECK_EQ (atomic_load (&bell ()->turn_waiters), 0);
  end ();
}

static uint64_t next;           /* the turn of next_thread */

static void *
next_thread (void *opaque)
{
  (void) opaque;
  next = turns_begin (&map, LARGE);
  return NULL;
}

/* A read that waits for its turn is woken when the turn ends, and does not wait
 * for the end of the lease.  (Other programs may hold it up.)
 */
static void
test_woken (void)
{
  unsigned n, soon = 0;
  pthread_t thread;
  uint64_t turn;

  start ();
  for (n = 0; n < 20; ++n) {
    turn = turns_begin (&map, LARGE);
    CHECK (pthread_create (&thread, NULL, next_thread, NULL) == 0);
    while (atomic_load (&bell ()->turn_waiters) == 0 &&
           now_monotonic_ns () < turn)
      sched_yield ();
    turns_end (&map, turn);
    pthread_join (thread, NULL);
    soon += next - TURNS_LEASE < turn;
    turns_end (&map, next);
  }
  CHECK (soon >= 10);
  end ();
}

/* A client that is stopped in its turn holds the others for as long as a turn
 * lasts, and when it continues it ends nobody's turn.
 */
static void
test_stopped (void)
{
  uint64_t turn, theirs;
  int status;
  pid_t pid;

  start ();
  pid = fork ();
  if (pid == 0) {
    turn = turns_begin (&map, LARGE);
    raise (SIGSTOP);
    turns_end (&map, turn);
    _exit (turn == 0);
  }
  CHECK (waitpid (pid, &status, WUNTRACED) == pid);
  CHECK (WIFSTOPPED (status));
  theirs = atomic_load (&bell ()->turn);
  turn = turns_begin (&map, LARGE);
  CHECK (turn >= theirs + TURNS_LEASE);
  CHECK (kill (pid, SIGCONT) == 0);
  CHECK (waitpid (pid, &status, 0) == pid);
  CHECK_EQ (status, 0);
  CHECK_EQ (atomic_load (&bell ()->turn), turn);
  turns_end (&map, turn);
  CHECK_EQ (atomic_load (&bell ()->turn), 0);
  end ();
}

static _Atomic (bool) quiet;

static void *
selfish_thread (void *opaque)
{
  (void) opaque;
  while (!quiet)
    atomic_store (&bell ()->turn, now_monotonic_ns () + TURNS_LEASE);
  return NULL;
}

/* One that never lets go, and never wakes anybody. */
static void
test_selfish (void)
{
  pthread_t thread;
  unsigned n;

  start ();
  atomic_store (&bell ()->turn, now_monotonic_ns () + TURNS_LEASE);
  CHECK (pthread_create (&thread, NULL, selfish_thread, NULL) == 0);
  for (n = 0; n < 5; ++n)
    turns_end (&map, turns_begin (&map, LARGE));
  quiet = true;
  pthread_join (thread, NULL);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_who);
  RUN (test_garbage);
  RUN (test_one_at_a_time);
  RUN (test_woken);
  RUN (test_stopped);
  RUN (test_selfish);
  return unit_end ();
}
