/* SPDX-License-Identifier: BSD-3-Clause */

/* Starts a command as an NBD server, and ends it: nbd-child.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/nbd/nbd-child.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

/* Where systemd puts the first socket. */
#define LISTEN_FD 3

#define STOP_WAIT (10 * NS_PER_SEC)
#define HURRY_WAIT NS_PER_SEC

static struct sockaddr_un
address (const struct nbd_child *child)
{
  struct sockaddr_un a = { .sun_family = AF_UNIX };

  snprintf (a.sun_path, sizeof a.sun_path, "%s/s", child->dir);
  return a;
}

/* A socket in a directory that only we may enter. */
static int
make_socket (struct nbd_child *child, struct error *e)
{
  struct sockaddr_un a;
  int fd;

  strcpy (child->dir, "/tmp/cbw-nbd-XXXXXX");
  if (mkdtemp (child->dir) == NULL) {
    child->dir[0] = '\0';
    return error_set_errno (e, errno, "cannot make a directory in /tmp");
  }
  a = address (child);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1 ||
      bind (fd, (const struct sockaddr *) &a, sizeof a) == -1 ||
      listen (fd, 16) == -1) {
    error_set_errno (e, errno, "%s: cannot make a socket", a.sun_path);
    if (fd >= 0)
      close (fd);
    nbd_child_seal (child);
    return -1;
  }
  return fd;
}

/* Our environment with LISTEN_FDS; the pid, which only the child knows, is
 * left to be filled in at *pid.  One block of memory for free.
 */
#define PID_DIGITS 10
static char **
make_environment (char **pid)
{
  static const char listen_pid[] = "LISTEN_PID=";
  size_t n = 0, i;
  char **env, *text;

  while (environ[n])
    n++;
  env = malloc ((n + 3) * sizeof *env + sizeof listen_pid + PID_DIGITS);
  if (env == NULL)
    return NULL;
  text = (char *) (env + n + 3);
  strcpy (text, listen_pid);
  *pid = text + sizeof listen_pid - 1;
  for (i = n = 0; environ[i]; ++i)
    if (strncmp (environ[i], "LISTEN_", 7) != 0)
      env[n++] = environ[i];
  env[n++] = text;
  env[n++] = (char *) "LISTEN_FDS=1";
  env[n] = NULL;
  return env;
}

/* What the child does before it is the server.  We have threads, so only
 * functions which are safe in a signal handler.
 */
__attribute__ ((noreturn)) static void
become_server (char *const argv[], char **env, char *pid_text, pid_t parent,
               int listener, int report)
{
  struct sigaction action = { .sa_handler = SIG_DFL };
  char digits[PID_DIGITS];
  sigset_t none;
  int null, sig, err, n = 0;
  pid_t pid = getpid ();

  for (sig = 1; sig < 32; ++sig)
    sigaction (sig, &action, NULL);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  setpgid (0, 0);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () != parent)
    _exit (1);                  /* it ended before the line above */

  do
    digits[n++] = (char) ('0' + pid % 10);
  while ((pid /= 10) > 0);
  while (n > 0)
    *pid_text++ = digits[--n];
  *pid_text = '\0';

  /* With nbdkit -s, 0 and 1 are the guest's connection.  What is to be
   * kept goes above all that is written to first.
   */
  report = fcntl (report, F_DUPFD_CLOEXEC, LISTEN_FD + 1);
  listener = fcntl (listener, F_DUPFD_CLOEXEC, LISTEN_FD + 1);
  null = open ("/dev/null", O_RDONLY);
  if (report >= 0 && listener >= 0 && null >= 0 && dup2 (null, 0) != -1 &&
      dup2 (2, 1) != -1 && dup2 (listener, LISTEN_FD) != -1) {
    close_range (LISTEN_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    execvpe (argv[0], argv, env);
  }
  err = errno;
  if (write (report, &err, sizeof err) != sizeof err)
    _exit (127);
  _exit (126);
}

/* It and what it started, by force.  It is no zombie that was waited for, so
 * the number is still its own.
 */
static void
kill_group (const struct nbd_child *child)
{
  kill (-child->pid, SIGKILL);
  kill (child->pid, SIGKILL);   /* it may have left the group */
}

/* Wait until the child has become the server, or says (by its errno) that it
 * cannot.
 */
static int
await_server (int report, uint64_t until, int cancel)
{
  struct pollfd p[2] = {
    { .fd = report, .events = POLLIN }, { .fd = cancel, .events = POLLIN },
  };
  int r, err;

  do
    r = poll (p, 2, clock_ms_until (until));
  while (r == -1 && errno == EINTR);
  if (!p[0].revents)
    return p[1].revents ? ECANCELED : ETIMEDOUT;
  return read (report, &err, sizeof err) == sizeof err ? err : 0;
}

int
nbd_child_start (struct nbd_child *child, char *const argv[],
                 uint64_t until, int cancel, struct error *e)
{
  CLEANUP_CLOSE int listener = -1, report = -1;
  CLEANUP_FREE char **env = NULL;
  const pid_t parent = getpid ();
  int report_pipe[2], err;
  char *pid_text;

  listener = make_socket (child, e);
  if (listener == -1)
    return -1;
  env = make_environment (&pid_text);
  if (env == NULL || pipe2 (report_pipe, O_CLOEXEC) == -1) {
    nbd_child_seal (child);
    return error_set_errno (e, errno, "%s", argv[0]);
  }
  report = report_pipe[0];
  child->pid = fork ();
  if (child->pid == 0)
    become_server (argv, env, pid_text, parent, listener, report_pipe[1]);
  err = errno;
  close (report_pipe[1]);
  if (child->pid == -1) {
    nbd_child_seal (child);
    return error_set_errno (e, err, "%s: fork", argv[0]);
  }
  err = await_server (report, until, cancel);
  if (err != 0) {
    kill_group (child);
    nbd_child_stop (child);
    return error_set_errno (e, err, "%s: cannot be run", argv[0]);
  }
  return 0;
}

int
nbd_child_connect (const struct nbd_child *child, struct error *e)
{
  const struct sockaddr_un a = address (child);
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd == -1 || connect (fd, (const struct sockaddr *) &a,
                           sizeof a) == -1) {
    error_set_errno (e, errno, "cannot connect to the command");
    if (fd >= 0)
      close (fd);
    return -1;
  }
  return fd;
}

void
nbd_child_seal (struct nbd_child *child)
{
  const struct sockaddr_un a = address (child);

  if (child->dir[0] == '\0')
    return;
  unlink (a.sun_path);
  rmdir (child->dir);
  child->dir[0] = '\0';
}

int
nbd_child_ended (struct nbd_child *child, int *status)
{
  pid_t r;

  if (child->pid <= 0)
    return 0;
  r = waitpid (child->pid, status, WNOHANG);
  if (r == 0 || (r == -1 && errno != ECHILD))
    return 0;
  if (r == -1)
    *status = 0;                /* SIGCHLD is ignored: nobody knows */
  child->pid = 0;
  return 1;
}

void
nbd_child_stop (struct nbd_child *child)
{
  const uint64_t begin = now_monotonic_ns ();
  const struct timespec pause = { .tv_nsec = 5 * NS_PER_MS };
  uint64_t now, until = begin + STOP_WAIT;
  bool killed = false;
  int status;

  nbd_child_seal (child);
  if (child->pid <= 0)
    return;
  kill (child->pid, SIGTERM);
  while (!nbd_child_ended (child, &status)) {
    now = now_monotonic_ns ();
    if (!killed && atomic_load (child->hurry) && now >= begin + HURRY_WAIT) {
      kill_group (child);
      killed = true;
      until = now + HURRY_WAIT;
    }
    if (now >= until)
      return;
    nanosleep (&pause, NULL);
  }
}
