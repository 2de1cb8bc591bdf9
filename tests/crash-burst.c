/* SPDX-License-Identifier: BSD-3-Clause */

/* Changes of all windows at once, with a request among them; to their end, or
 * until the filter is killed.
 */

#include <config.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "crash-model.h"
#include "crash-steps.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

#define NR_CHANGES CRASH_WINDOWS

/* It was not answered: it may have been done. */
static void
unanswered (enum request request, struct crash_point *p)
{
  if (request == DROP)
    p->stand = PERHAPS_DROPPED;
  TRACE ("request %d of %s: not answered\n", request, p->name);
  p->live = false;
}

struct burst {
  struct change changes[NR_CHANGES];
  enum request request;
  struct crash_point *point;
  pid_t client;                 /* a process that makes the request */
};

/* A client that dies with the host, and does not know the outcome. */
static pid_t
start_client (enum request request, const struct crash_point *p)
{
  const pid_t pid = fork ();
  struct client client;
  struct error e;

  REQUIRE (pid != -1, "fork: %m");
  if (pid > 0)
    return pid;
  if (client_attach (&client, crash.shm, "burst", true, 20 * NS_PER_SEC,
                     &e) == -1 ||
      request_ask (&client, request, p, &e) == -1) {
    fprintf (stderr, "%s: %s\n", p->name, e.msg);
    _exit (1);
  }
  _exit (0);
}

static void
burst_begin (struct burst *b)
{
  unsigned i;

  b->request = request_choose (&b->point);
  if (b->request != NOTHING && below (2)) /* before the changes, or after */
    b->client = start_client (b->request, b->point);
  for (i = 0; i < NR_CHANGES; ++i) {
    b->changes[i] = change_random (i);
    change_submit (&b->changes[i]);
  }
  if (b->request != NOTHING && b->client == 0) {
    nbd_poll (crash.guest, 0);
    b->client = start_client (b->request, b->point);
  }
  crash_steps.bursts++;
}

static void
burst_free (struct burst *b)
{
  unsigned i;

  for (i = 0; i < NR_CHANGES; ++i)
    free (b->changes[i].data);
}

/* The view of the newest snapshot, which no other one stands before. */
static void
read_view (const struct crash_point *p, unsigned char *to)
{
  struct segment s = SEGMENT_INIT;
  struct snapshot_info info;
  struct error e;
  char target[CBW_TARGET_MAX];
  struct bitmap done;
  uint64_t place, c, n;
  int fd;

  REQUIRE (segment_look (&s, crash.shm, &e) == 0, "%s", e.msg);
  REQUIRE (entry_find (&s.map, p->name, &info) &&
           segment_find_bitmaps (&s, info.index, CBW_SNAPSHOT_BITMAPS),
           "%s: is not in the table", p->name);
  done = map_bitmap (&s.map, info.index, CBW_BITMAP_DONE, info.size);
  REQUIRE (info.state == CBW_SNAPSHOT_LIVE, "%s is broken", p->name);
  point_target (p, target);
  fd = open (target, O_RDONLY | O_CLOEXEC);
  REQUIRE (fd >= 0, "%s: %m", target);
  memcpy (to, crash.disk, CRASH_PLACES);
  for (place = 0; place < CRASH_PLACES; place += n) {
    c = place_offset (place) / CRASH_CLUSTER;
    n = min_u64 (place_run (place), CRASH_CLUSTER -
                 place_offset (place) % CRASH_CLUSTER);
    if (!bitmap_test (&done, c))
      continue;
    memset (to + place, 0, n);  /* behind the end of the file */
    REQUIRE (pread (fd, to + place, n, (off_t) place_offset (place)) >= 0,
             "%s: %m", target);
  }
  close (fd);
  segment_close (&s, false);
}

/* A point was made among the changes: with the disk's old or new bytes. */
static void
burst_was (struct burst *b)
{
  struct crash_point *p = b->point;

  if (b->request == CREATE)
    read_view (p, p->was.data);
  else if (b->request == CHECKPOINT)
    moment_other (&p->was, crash.disk);
}

void
step_burst (void)
{
  struct burst b = { .client = 0 };
  unsigned i;
  int status;

  burst_begin (&b);
  for (i = 0; i < NR_CHANGES; ++i)
    change_await (&b.changes[i]);
  if (b.client) {
    REQUIRE (waitpid (b.client, &status, 0) == b.client && status == 0,
             "%s: the request has failed", b.point->name);
    request_answered (b.request, b.point);
    burst_was (&b);
  }
  burst_free (&b);
}

/* Those that were not answered may have been done, too. */
static void
burst_perhaps (struct burst *b)
{
  unsigned i;

  if (b->request != CREATE && b->request != CHECKPOINT)
    return;
  memcpy (crash.buf, crash.disk, CRASH_PLACES);
  for (i = 0; i < NR_CHANGES; ++i)
    memcpy (crash.buf + b->changes[i].place, b->changes[i].data,
            b->changes[i].count);
  moment_other (&b->point->was, crash.buf);
}

void
step_burst_killed (void)
{
  struct burst b = { .client = 0 };
  const uint64_t deadline = now_monotonic_ns () +
    (UINT64_C (1) << below (23)) * (1 + below (2));
  const bool counted = below (2);
  int status;

  burst_begin (&b);
  if (counted)
    crash_countdown (&crash.files, 1 + (unsigned) below (40));
  burst_perhaps (&b);
  while (now_monotonic_ns () < deadline)
    if (nbd_poll (crash.guest, 1) == -1)
      break;
  server_stop (&crash.filter, SIGKILL);
  crash_countdown (&crash.files, 0);
  TRACE ("killed\n");
  if (b.client) {
    kill (b.client, SIGKILL);
    waitpid (b.client, &status, 0);
    if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
      request_answered (b.request, b.point);
    else
      unanswered (b.request, b.point);
  }
  steps_disconnect ();
  burst_free (&b);
}
