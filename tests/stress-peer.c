/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdarg.h>

#include "stress-peer.h"
#include "unit.h"
#include "utils/clock.h"

#define CONNECT_SECONDS 60

struct stress stress = {
  .seconds = 2, .writers = 4, .readers = 3, .max = 4 << 20
};

void
peer_die (const struct peer *p, const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  fprintf (stderr, "stress: %s %u: ", p->what, p->index);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
  fflush (stderr);
  _exit (1);
}

static void
peer_connect (struct peer *p)
{
  const uint64_t give_up =
    now_monotonic_ns () + CONNECT_SECONDS * NS_PER_SEC;

  for (;;) {
    p->nbd = nbd_create ();
    if (p->nbd == NULL ||
        nbd_add_meta_context (p->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1)
      peer_die (p, "%s", nbd_get_error ());
    if (nbd_connect_uri (p->nbd, p->uri) == 0)
      break;
    if (!stress.reconnect || now_monotonic_ns () > give_up)
      peer_die (p, "%s", nbd_get_error ());
    nbd_close (p->nbd);
    usleep (20000);
  }
  if (nbd_get_size (p->nbd) != (int64_t) stress.size)
    peer_die (p, "%s has %" PRIi64 " bytes", p->uri, nbd_get_size (p->nbd));
}

bool
peer_may_fail (const struct peer *p, bool may)
{
  const int err = nbd_get_errno ();

  if (!may || !nbd_aio_is_ready (p->nbd) || (err != EIO && err != ENOSPC))
    return false;
  stress.nr_errors++;
  return true;
}

bool
peer_view_may_fail (const struct peer *p)
{
  return peer_may_fail (p, stress.view_errors && p->uri == stress.snap);
}

void
peer_failed (struct peer *p, const char *what, uint64_t count,
             uint64_t offset)
{
  if (!stress.reconnect || nbd_aio_is_ready (p->nbd))
    peer_die (p, "%s of %" PRIu64 " bytes at %" PRIu64 ": %s", what, count,
              offset, nbd_get_error ());
  nbd_close (p->nbd);
  peer_connect (p);
  stress.nr_reconnects++;
}

void
peer_start (struct peer *p)
{
  p->buf = malloc (stress.max);
  p->expected = malloc (stress.max);
  if (p->buf == NULL || p->expected == NULL)
    peer_die (p, "no memory");
  peer_connect (p);
}

void
peer_end (struct peer *p)
{
  nbd_shutdown (p->nbd, 0);
  nbd_close (p->nbd);
  free (p->buf);
  free (p->expected);
}

bool
peer_read (struct peer *p, uint64_t count, uint64_t offset)
{
  while (nbd_pread (p->nbd, p->buf, count, offset, 0) == -1) {
    if (peer_view_may_fail (p))
      return false;
    peer_failed (p, "read", count, offset);
  }
  return true;
}
