/* SPDX-License-Identifier: BSD-3-Clause */

/* The word that says that the server is alive: as soon as the server's lock is
 * free it says that it is not, however the server ended.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "segment-env.h"
#include "segment/alive.h"
#include "segment/liveness.h"
#include "segment/segment-server.h"
#include "unit.h"

#define SIZE (1 << 20)
#define CS 65536

/* In place of the C library's: the kernel can be made not to know of robust
 * futexes (an errno), or to do nothing with them (-1).
 */
static int fail_robust;

long
syscall (long number, ...)
{
  static long (*real) (long number, ...);
  long a[6];
  va_list ap;
  unsigned i;

  va_start (ap, number);
  for (i = 0; i < 6; ++i)
    a[i] = va_arg (ap, long);
  va_end (ap);
  if (number == SYS_set_robust_list && fail_robust != 0) {
    errno = fail_robust;
    return fail_robust > 0 ? -1 : 0;
  }
  if (real == NULL)
    *(void **) &real = dlsym (RTLD_NEXT, "syscall");
  return real (number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- A server, and who looks at its segment ---- */

static struct segment server;
static struct alive alive;

static void
serve (void)
{
  struct error e;

  segment_env_serve (&server, SIZE, CS);
  CHECK (segment_begin (&server, &e) == 0);
  alive_init (&alive, &map_header (&server.map)->alive);
  CHECK_EQ (alive_start (&alive), 0);
  segment_publish (&server);
}

static int looker = -1;
static struct cbw_header *seen;

/* The segment has been made. */
static void
look (void)
{
  looker = open (segment_env.path, O_RDWR | O_CLOEXEC);
  CHECK (looker >= 0);
  seen = mmap (NULL, CBW_PAGE, PROT_READ, MAP_SHARED, looker, 0);
  CHECK (seen != MAP_FAILED);
}

static uint32_t
word (void)
{
  return atomic_load (&seen->alive);
}

static bool
says_alive (void)
{
  return word () != 0 && !(word () & CBW_ALIVE_DIED);
}

/* A child serves, then does what "then" does, and waits. */
static pid_t
start_child (void (*then) (void))
{
  const pid_t pid = fork ();

  if (pid != 0)
    return pid;
  serve ();
  if (then)
    then ();
  for (;;)
    pause ();
}

/* The very moment in which the lock is free. */
static void
wait_lock_free (void)
{
  while (liveness_server (looker))
    ;
}

static void
wait_alive (void)
{
  while (!says_alive ())
    sched_yield ();
}

static int
reap (pid_t pid)
{
  int status;

  CHECK (waitpid (pid, &status, 0) == pid);
  return status;
}

/* ---- Tests ---- */

static void
test_stop (void)
{
  serve ();
  look ();
  CHECK (says_alive ());
  alive_stop (&alive);
  CHECK_EQ (word (), 0);        /* and the lock is held */
  CHECK (liveness_server (looker));
  CHECK (alive_join (&alive, UINT64_MAX));
  CHECK_EQ (word (), 0);
  alive_free (&alive);
  segment_close (&server, false);
}

/* At any moment, from before it serves on. */
static void
test_killed (void)
{
  uint64_t seed = 3, n;
  unsigned i, lived = 0;
  bool was_alive;
  pid_t pid;

  for (i = 0; i < 200; ++i) {
    pid = start_child (NULL);
    if (i % 2 == 0)
      wait_alive ();
    for (n = unit_random (&seed) % 30000; n > 0; --n)
      liveness_server (looker);
    was_alive = says_alive ();
    CHECK (kill (pid, SIGKILL) == 0);
    wait_lock_free ();
    CHECK (!says_alive ());
    CHECK (!was_alive || word () == CBW_ALIVE_DIED);
    lived += was_alive;
    reap (pid);
  }
  CHECK (lived >= 100);
}

static int go[2];               /* closed when the child is to end */

static void
wait_go (void)
{
  char c;

  close (go[1]);
  CHECK_EQ (read (go[0], &c, 1), 0);
}

static void
check_ends (void (*then) (void))
{
  pid_t pid;

  CHECK (pipe2 (go, O_CLOEXEC) == 0);
  pid = start_child (then);
  close (go[0]);
  wait_alive ();
  close (go[1]);
  wait_lock_free ();
  CHECK_EQ (word (), CBW_ALIVE_DIED);
  reap (pid);
}

static void
end_by_exit (void)
{
  wait_go ();
  _exit (0);
}

static void
end_by_crash (void)
{
  wait_go ();
  abort ();
}

static void
end_by_exec (void)
{
  wait_go ();
  execlp ("true", "true", NULL);
}

static void *
exec_thread (void *opaque)
{
  (void) opaque;
  end_by_exec ();
  return NULL;
}

static void
end_by_thread (void)
{
  pthread_t thread;

  CHECK (pthread_create (&thread, NULL, exec_thread, NULL) == 0);
}

static void
test_ends (void)
{
  check_ends (end_by_exit);
  check_ends (end_by_crash);
  check_ends (end_by_exec);
  check_ends (end_by_thread);
}

/* A child of the server's keeps the lock, as it has the file open, and is not
 * the server.
 */
static void
fork_on (void)
{
  if (fork () == 0)
    for (;;)
      pause ();
}

static void
test_forked (void)
{
  const pid_t group = fork ();

  if (group == 0) {
    setpgid (0, 0);
    serve ();
    fork_on ();
    raise (SIGKILL);
  }
  CHECK_EQ (reap (group), SIGKILL);
  CHECK (liveness_server (looker));
  CHECK_EQ (word (), CBW_ALIVE_DIED);
  CHECK (kill (-group, SIGKILL) == 0);
  wait_lock_free ();
}

/* What a server has left means nothing when another begins. */
static void
test_takeover (void)
{
  struct cbw_header *h;
  struct error e;

  segment_env_serve (&server, SIZE, CS);
  h = map_header (&server.map);
  atomic_store (&h->alive, 12345);
  atomic_store (&h->guests_write, 1);
  atomic_store (&h->unchanged_claims, 7);
  segment_close (&server, false);
  segment_env_serve (&server, SIZE, CS);
  CHECK_EQ (word (), 12345);    /* nothing is touched yet */
  CHECK (segment_begin (&server, &e) == 0);
  CHECK_EQ (word (), 0);
  CHECK_EQ (atomic_load (&seen->guests_write), 0);
  CHECK_EQ (atomic_load (&seen->unchanged_claims), 0);
  segment_close (&server, false);
}

/* Without the kernel's help nothing is said. */
static void
test_no_kernel (void)
{
  const int fails[] = { ENOSYS, EPERM, -1 };
  unsigned i;

  segment_env_serve (&server, SIZE, CS);
  for (i = 0; i < 3; ++i) {
    fail_robust = fails[i];
    alive_init (&alive, &map_header (&server.map)->alive);
    CHECK_EQ (alive_start (&alive), ENOSYS);
    CHECK_EQ (word (), 0);
    alive_stop (&alive);
    CHECK (alive_join (&alive, UINT64_MAX));
    alive_free (&alive);
  }
  fail_robust = 0;
  segment_close (&server, false);
}

/* Put this process, and its children, on one processor, before all others
 * there: then no other runs there until it sleeps.
 */
static bool
come_first (void)
{
  const struct sched_param first = { .sched_priority = 1 };
  cpu_set_t one;

  CPU_ZERO (&one);
  CPU_SET (sched_getcpu (), &one);
  return sched_setaffinity (0, sizeof one, &one) == 0 &&
    sched_setscheduler (0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) == 0;
}

/* The memory of a process that is killed is taken before its threads have run
 * once more, as is done where there is no memory left.
 */
static void
test_memory_taken (void)
{
#if defined SYS_process_mrelease && defined SYS_pidfd_open
  cpu_set_t all;
  int fd;
  pid_t pid;

  CHECK (sched_getaffinity (0, sizeof all, &all) == 0);
  if (!come_first ()) {
    printf ("  left out: %s\n", strerror (errno));
    return;
  }
  pid = start_child (NULL);
  while (!says_alive ())
    usleep (1000);
  fd = (int) syscall (SYS_pidfd_open, pid, 0);
  CHECK (fd >= 0);
  CHECK (kill (pid, SIGKILL) == 0);
  if (syscall (SYS_process_mrelease, fd, 0) == -1)
    printf ("  left out: %s\n", strerror (errno));
  CHECK (says_alive ());        /* it has not run */
  close (fd);
  reap (pid);
  CHECK_EQ (word (), CBW_ALIVE_DIED);
  CHECK (sched_setscheduler (0, SCHED_OTHER, &(struct sched_param) { 0 }) == 0);
  CHECK (sched_setaffinity (0, sizeof all, &all) == 0);
#endif
}

int
main (void)
{
  const struct rlimit no_core = { 0, 0 };

  unit_start ();
  setrlimit (RLIMIT_CORE, &no_core);
  segment_env_start ();
  RUN (test_stop);
  RUN (test_killed);
  RUN (test_ends);
  RUN (test_forked);
  RUN (test_memory_taken);
  RUN (test_takeover);
  RUN (test_no_kernel);
  close (looker);
  unlink (segment_env.path);
  segment_env_end ();
  return unit_end ();
}
