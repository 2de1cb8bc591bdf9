/* SPDX-License-Identifier: BSD-3-Clause */

/* Attaching to a segment, and taking an entry of its client table.  The plugin
 * and cbwctl call this.  The lock on the entry's byte comes first: only its
 * holder writes the entry.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "request/client.h"
#include "segment/liveness.h"
#include "segment/slots.h"
#include "utils/clock.h"

/* How often to look, where nothing can wake us. */
#define POLL_INTERVAL (20 * NS_PER_MS)

static void
sleep_ns (uint64_t ns)
{
  const struct timespec ts = {
    .tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC
  };

  nanosleep (&ts, NULL);
}

/* segment_attach or segment_try_attach. */
typedef int attach_function (struct segment *s, const char *path,
                             struct error *e);

/* Attach to a segment whose server is alive; EAGAIN if there is none. */
static int
attach_served (struct segment *s, const char *path, attach_function *attach,
               struct error *e)
{
  if (attach (s, path, e) == -1)
    return -1;
  if (!liveness_server (s->fd)) {
    error_set (e, EAGAIN, "%s: no server has this segment; "
               "start nbdkit --filter=cbw with cbw-shm=%s", path, path);
    segment_close (s, false);
    return -1;
  }
  return 0;
}

static int
wait_attach (struct segment *s, const char *path, uint64_t wait_ns,
             attach_function *attach, struct error *e)
{
  const uint64_t deadline = now_monotonic_ns () + wait_ns;

  *s = (struct segment) SEGMENT_INIT;
  while (attach_served (s, path, attach, e) == -1) {
    if (e->num != EAGAIN || now_monotonic_ns () >= deadline)
      return -1;
    sleep_ns (POLL_INTERVAL);
  }
  return 0;
}

/* Take an entry of the client table. */
static int
take_entry (struct client *c, const char *name, bool control,
            struct error *e)
{
  const unsigned end = control ? CBW_NR_CLIENTS : CLIENTS_FOR_ALL;
  struct cbw_client *entry;
  unsigned i;

  for (i = 0; i < end; ++i)
    if (liveness_take_client (c->segment.fd, i) == 1)
      break;
  if (i == end)
    return error_set (e, EUSERS, "%s: has %u clients already, no more can "
                      "attach; end one of them", c->segment.path, end);

  entry = map_client (&c->segment.map, i);
  entry->pid = (uint32_t) getpid ();
  entry->start_ns = now_realtime_ns ();
  snprintf (entry->name, sizeof entry->name, "%s", name);
  c->owner = slot_owner (i, atomic_fetch_add (&entry->incarnation, 1) + 1);
  return 0;
}

int
client_attach (struct client *c, const char *path, const char *name,
               bool control, uint64_t wait_ns, struct error *e)
{
  unsigned i;

  share_init (&c->share);
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    share_init (&c->snapshots[i]);
  for (i = 0; i < CBW_NR_SLOTS; ++i)
    atomic_init (&c->claims[i], 0);
  if (wait_attach (&c->segment, path, wait_ns, segment_attach, e) == -1)
    return -1;
  if (take_entry (c, name, control, e) == -1) {
    client_detach (c);
    return -1;
  }
  return 0;
}

int
client_probe (const char *path, uint64_t wait_ns, struct error *e)
{
  struct segment s;

  if (wait_attach (&s, path, wait_ns, segment_try_attach, e) == -1)
    return -1;
  segment_close (&s, false);
  return 0;
}

void
client_detach (struct client *c)
{
  segment_close (&c->segment, false);
}

bool
client_server_alive (const struct client *c)
{
  return liveness_server (c->segment.fd);
}

bool
client_wait_server (const struct client *c, uint64_t *waited_since)
{
  const uint64_t now = now_monotonic_ns ();

  if (*waited_since == 0)
    *waited_since = now;
  if (now - *waited_since >= c->server_timeout_ns)
    return false;
  sleep_ns (POLL_INTERVAL);
  return true;
}
