/* SPDX-License-Identifier: BSD-3-Clause */

/* All connections to one server, and its process: nbd-link.h. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "image/nbd/nbd-link.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* How long another connection may take, which is not needed.  A server
 * that was started without leave for so many does not refuse it, but lets
 * it wait.
 */
#define EXTRA_WAIT NS_PER_SEC

static struct nbd_conn *
connect_once (struct nbd_link *link, const struct nbd_address *a,
              uint64_t until, int cancel, struct nbd_info *info,
              struct error *e)
{
  int fd = -1;

  if (!a->uri) {
    fd = nbd_child_connect (&link->child, e);
    if (fd == -1)
      return NULL;
  }
  return nbd_conn_open (a->uri, fd, until, cancel, info, e);
}

/* Why the command did not serve is what it said, if it is gone. */
static void
explain (struct nbd_link *link, struct error *e)
{
  const struct timespec pause = { .tv_nsec = NS_PER_SEC / 10 };
  int status;

  if (e->num == ETIMEDOUT || e->num == ECANCELED)
    return;
  /* It closes its socket a moment before it is gone. */
  nanosleep (&pause, NULL);
  if (!nbd_child_ended (&link->child, &status))
    return;
  if (WIFEXITED (status))
    error_set (e, EIO, "the command ended with status %d; what it said is "
               "in the messages of this server", WEXITSTATUS (status));
  else
    error_set (e, EIO, "the command was ended by signal %d",
               WTERMSIG (status));
}

/* As many connections as are of use; the first is there. */
static void
connect_more (struct nbd_link *link, const struct nbd_address *a,
              uint64_t until, int cancel)
{
  struct nbd_info info;
  struct error e;

  until = min_u64 (until, now_monotonic_ns () + EXTRA_WAIT);
  for (; link->nr < NBD_LINK_CONNS; ++link->nr) {
    link->conns[link->nr] = connect_once (link, a, until, cancel, &info, &e);
    if (link->conns[link->nr] == NULL)
      return;
    if (info.size != link->info.size || !info.multi_conn ||
        info.read_only != link->info.read_only) {
      nbd_conn_close (link->conns[link->nr]);
      return;                   /* not the same server any more? */
    }
  }
}

struct nbd_link *
nbd_link_open (const struct nbd_address *a, uint64_t until, int cancel,
               const _Atomic (bool) *hurry, struct error *e)
{
  struct nbd_link *link = calloc (1, sizeof *link);

  if (link == NULL) {
    error_set_errno (e, ENOMEM, "connection");
    return NULL;
  }
  link->refs = 1;
  link->child.hurry = hurry;
  if (!a->uri && nbd_child_start (&link->child, a->argv, until, cancel,
                                  e) == -1) {
    free (link);
    return NULL;
  }
  link->conns[0] = connect_once (link, a, until, cancel, &link->info, e);
  if (link->conns[0] == NULL) {
    explain (link, e);
    nbd_link_close (link);
    return NULL;
  }
  link->nr = 1;
  if (link->info.multi_conn)
    connect_more (link, a, until, cancel);
  nbd_child_seal (&link->child);
  return link;
}

void
nbd_link_close (struct nbd_link *link)
{
  unsigned i;

  for (i = 0; i < link->nr; ++i)
    nbd_conn_close (link->conns[i]);
  nbd_child_stop (&link->child);
  free (link);
}

struct nbd_conn *
nbd_link_pick (const struct nbd_link *link)
{
  unsigned i, best = 0, load, least = ~0u;

  for (i = 0; i < link->nr && least > 0; ++i) {
    load = nbd_conn_load (link->conns[i]);
    if (load < least) {
      least = load;
      best = i;
    }
  }
  return link->conns[best];
}

bool
nbd_link_alive (const struct nbd_link *link)
{
  return nbd_conn_alive (nbd_link_pick (link));
}

void
nbd_link_abort (const struct nbd_link *link)
{
  unsigned i;

  for (i = 0; i < link->nr; ++i)
    nbd_conn_abort (link->conns[i]);
}
