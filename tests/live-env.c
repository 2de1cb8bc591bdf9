/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "live-env.h"
#include "segment/entry.h"
#include "utils/clock.h"

#define PATIENCE (60 * NS_PER_SEC)

char live_context[64];

void
live_fail (const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  fprintf (stderr, "%s: FAIL: %s: ", program_invocation_short_name,
           live_context);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
  fflush (NULL);
  _exit (1);
}

void
live_sleep_us (uint64_t us)
{
  const struct timespec ts = {
    .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000
  };

  nanosleep (&ts, NULL);
}

/* ---- Servers ---- */

void
server_init (struct server *s, const char *dir, const char *name)
{
  snprintf (s->run, sizeof s->run, "%s/run-%s", dir, name);
  snprintf (s->socket, sizeof s->socket, "%s/%s.sock", dir, name);
  snprintf (s->log, sizeof s->log, "%s/%s.log", dir, name);
  s->pid = 0;
}

void
server_launch (struct server *s)
{
  const pid_t parent = getpid ();
  int fd;

  unlink (s->socket);
  s->pid = fork ();
  REQUIRE (s->pid != -1, "fork: %m");
  if (s->pid > 0)
    return;

  prctl (PR_SET_PDEATHSIG, SIGKILL);
  if (getppid () != parent)
    _exit (127);
  fd = open (s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2 (fd, STDOUT_FILENO);
  dup2 (fd, STDERR_FILENO);
  execl (s->run, s->run, NULL);
  _exit (127);
}

/* Has it ended?  Then it is no child any more. */
static bool
server_ended (struct server *s, int *status)
{
  if (waitpid (s->pid, status, WNOHANG) != s->pid)
    return false;
  s->pid = 0;
  return true;
}

/* Does it answer?  Which exports it has is another matter. */
static bool
answers (const struct server *s)
{
  struct nbd_handle *nbd = nbd_create ();
  bool r;

  REQUIRE (nbd != NULL, "%s", nbd_get_error ());
  nbd_set_opt_mode (nbd, true);
  r = access (s->socket, F_OK) == 0 && nbd_connect_unix (nbd, s->socket) == 0;
  if (r)
    nbd_opt_abort (nbd);
  nbd_close (nbd);
  return r;
}

bool
server_ready (struct server *s)
{
  const uint64_t give_up = now_monotonic_ns () + PATIENCE;
  int status;

  while (!answers (s)) {
    if (server_ended (s, &status))
      return false;
    REQUIRE (now_monotonic_ns () < give_up, "%s does not answer", s->run);
    live_sleep_us (2000);
  }
  return true;
}

void
server_start (struct server *s)
{
  server_launch (s);
  REQUIRE (server_ready (s), "%s did not start", s->run);
}

static bool
was_killed (const struct server *s, int status)
{
  const bool killed = WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL;

  REQUIRE (killed || (WIFEXITED (status) && WEXITSTATUS (status) == 0),
           "%s ended with status %#x", s->run, (unsigned) status);
  return killed;
}

bool
server_await (struct server *s)
{
  const uint64_t give_up = now_monotonic_ns () + PATIENCE;
  int status;

  while (!server_ended (s, &status)) {
    REQUIRE (now_monotonic_ns () < give_up, "%s does not end", s->run);
    live_sleep_us (1000);
  }
  return !was_killed (s, status);
}

bool
server_killed (struct server *s)
{
  int status;

  if (!server_ended (s, &status))
    return false;
  REQUIRE (was_killed (s, status), "%s ended", s->run);
  return true;
}

void
server_stop (struct server *s, int signal)
{
  kill (s->pid, signal);
  server_await (s);
}

struct nbd_handle *
live_connect (const struct server *s, const char *export_name)
{
  struct nbd_handle *nbd = nbd_create ();

  REQUIRE (nbd != NULL &&
           nbd_set_export_name (nbd, export_name) == 0 &&
           nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0,
           "%s", nbd_get_error ());
  if (nbd_connect_unix (nbd, s->socket) == 0)
    return nbd;
  nbd_close (nbd);
  return NULL;
}

/* ---- What is left in the segment and beside it ---- */

unsigned
live_slots (const struct cbw_map *m)
{
  unsigned i, nr = 0;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    nr += atomic_load (&map_slot (m, i)->state) != 0;
  return nr;
}

unsigned
live_entries (const struct cbw_map *m)
{
  unsigned i, nr = 0;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    nr += atomic_load (&map_snapshot (m, i)->state) != CBW_SNAPSHOT_EMPTY;
  return nr;
}

static void
wait_for (unsigned (*count) (const struct cbw_map *), const char *what,
          const struct cbw_map *m, unsigned nr)
{
  const uint64_t give_up = now_monotonic_ns () + 10 * NS_PER_SEC;

  while (count (m) > nr) {
    REQUIRE (now_monotonic_ns () < give_up, "%u %s are in use, not %u",
             count (m), what, nr);
    live_sleep_us (1000);
  }
}

void
live_wait_slots (const struct cbw_map *m, unsigned nr)
{
  wait_for (live_slots, "slots", m, nr);
}

void
live_wait_entries (const struct cbw_map *m, unsigned nr)
{
  wait_for (live_entries, "snapshot entries", m, nr);
}

static bool
in_table (const struct cbw_map *m, const char *target)
{
  char path[ENTRY_TARGET_MAX];
  uint32_t state;
  unsigned i;

  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i) {
    state = atomic_load (&map_snapshot (m, i)->state);
    entry_target (map_snapshot (m, i), state, path);
    if (state != CBW_SNAPSHOT_EMPTY && strcmp (path, target) == 0)
      return true;
  }
  return false;
}

void
live_check_targets (const struct cbw_map *m, const char *dir)
{
  DIR *d = opendir (dir);
  struct dirent *file;
  char path[PATH_MAX];
  unsigned i;

  REQUIRE (d != NULL, "%s: %m", dir);
  while ((file = readdir (d)) != NULL) {
    snprintf (path, sizeof path, "%s/%s", dir, file->d_name);
    /* It may go just now, with an owner that has ended. */
    REQUIRE (!strstr (file->d_name, ".cow") || in_table (m, path) ||
             access (path, F_OK) == -1,
             "%s: a target was left behind", path);
  }
  closedir (d);
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    REQUIRE (atomic_load (&map_snapshot (m, i)->state) !=
             CBW_SNAPSHOT_RESERVED, "entry %u is half made", i);
}

static bool
has_open (const struct server *s, char *file, size_t size)
{
  char path[64];
  struct dirent *fd;
  bool found = false;
  ssize_t len;
  DIR *d;

  snprintf (path, sizeof path, "/proc/%d/fd", s->pid);
  d = opendir (path);
  REQUIRE (d != NULL, "%s: %m", path);
  while (!found && (fd = readdir (d)) != NULL) {
    len = readlinkat (dirfd (d), fd->d_name, file, size - 1);
    file[len > 0 ? len : 0] = '\0';
    found = strstr (file, ".cow") || strstr (file, ".bak");
  }
  closedir (d);
  return found;
}

void
live_check_open_files (const struct server *s)
{
  const uint64_t give_up = now_monotonic_ns () + 5 * NS_PER_SEC;
  char file[PATH_MAX];

  while (has_open (s, file, sizeof file)) {
    REQUIRE (now_monotonic_ns () < give_up, "%s is still open", file);
    live_sleep_us (1000);
  }
}

/* ---- Arguments ---- */

const char *
live_arg (char **argv, const char *key, const char *otherwise)
{
  const size_t len = strlen (key);

  for (argv++; *argv; ++argv)
    if (strncmp (*argv, key, len) == 0 && (*argv)[len] == '=')
      return *argv + len + 1;
  REQUIRE (otherwise != NULL, "argument %s= is missing", key);
  return otherwise;
}

uint64_t
live_number (char **argv, const char *key, uint64_t otherwise)
{
  const char *value = live_arg (argv, key, "");

  return *value ? strtoull (value, NULL, 10) : otherwise;
}
