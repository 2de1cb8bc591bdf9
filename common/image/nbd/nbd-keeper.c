/* SPDX-License-Identifier: BSD-3-Clause */

/* The keeper's thread, and what requests ask of it: nbd-keeper.h.  Its
 * beginning and end are in nbd-life.c.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/nbd/nbd-keeper.h"
#include "image/nbd/nbd-verify.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

/* How long one try to connect may take, and how long after one that
 * failed the next is made at the earliest.
 */
#define CONNECT_WAIT (10 * NS_PER_SEC)
#define RETRY_INTERVAL NBD_RETRY_INTERVAL

/* How long a request waits for that.  It is a little longer, so that it can
 * tell why the try failed; but the keeper may first have to wait for the end
 * of the server before, or may have much to verify.
 */
#define LINK_WAIT (11 * NS_PER_SEC)

/* What was written is flushed after so long, or when it is so much. */
#define FLUSH_INTERVAL (5 * NS_PER_SEC)
#define FLUSH_BYTES (UINT64_C (256) << 20)
#define FLUSH_RECORDS (NBD_LOG_MAX / 2)

/* How long a flush that somebody asked for may take. */
#define FLUSH_WAIT (30 * NS_PER_SEC)

/* For good; the lock is held. */
static void
lose_image (struct nbd_image *nbd, const struct error *e)
{
  if (!nbd->lost)
    nbd->why = *e;
  nbd->lost = true;
  pthread_cond_broadcast (&nbd->tried);
}

/* Throw away the link; the lock is held. */
static void
close_link (struct nbd_image *nbd)
{
  struct nbd_link *link = nbd->link;

  if (link == NULL)
    return;
  nbd->down = true;
  if (link->refs > 1)
    nbd_link_abort (link);
  while (link->refs > 1)
    pthread_cond_wait (&nbd->wake, &nbd->lock);
  nbd->link = NULL;
  pthread_mutex_unlock (&nbd->lock);
  nbd_link_close (link);
  pthread_mutex_lock (&nbd->lock);
}

/* The link that is being verified can be aborted.  Returns false if it is not
 * to be.
 */
static bool
set_trying (struct nbd_image *nbd, struct nbd_link *link)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  nbd->trying = link;
  return !nbd->stop && !nbd->interrupted;
}

/* Make a link, without the lock.  As in nbd-verify.h, and *link is set if it
 * is 1.
 */
static int
open_link (struct nbd_image *nbd, struct nbd_link **link, struct error *why)
{
  struct error e;
  int ok = 0;

  *link = nbd_link_open (&nbd->address, now_monotonic_ns () + CONNECT_WAIT,
                         nbd->cancel, &nbd->interrupted, &e);
  if (*link == NULL) {
    error_set (why, e.num, "%s: cannot connect: %s", nbd->name, e.msg);
    return 0;
  }
  if (set_trying (nbd, *link)) {
    ok = nbd_verify_info (nbd, *link, why);
    if (ok == 1)
      ok = nbd_verify_log (nbd, *link, why);
  }
  else
    error_set (why, ECANCELED, "%s: connecting was given up", nbd->name);
  set_trying (nbd, NULL);
  if (ok != 1)
    nbd_link_close (*link);
  return ok;
}

/* Try once to have a link; the lock is held. */
static void
try_connect (struct nbd_image *nbd)
{
  struct nbd_link *link;
  struct error why;
  int ok;

  if ((nbd->flags & IMAGE_NBD_ONCE) && nbd->tries > 0) {
    error_set (&why, EIO, "%s: the connection to the server was lost",
               nbd->name);
    lose_image (nbd, &why);
    nbd->wanted = false;
    return;
  }
  close_link (nbd);
  pthread_mutex_unlock (&nbd->lock);
  ok = open_link (nbd, &link, &why);
  pthread_mutex_lock (&nbd->lock);
  nbd->wanted = false;
  if (ok == 1) {
    nbd->link = link;
    nbd->down = false;
    if (nbd->size == 0)
      nbd->size = link->info.size;
    nbd->block = link->info.minimum_block;
    /* The reason of a request that fails before the next try. */
    error_set (&nbd->why, EIO, "%s: the connection to the server was lost",
               nbd->name);
    if (nbd->log.unflushed < nbd->log.next)
      nbd->flush_ns = now_monotonic_ns () + FLUSH_INTERVAL;
  }
  else if (ok == -1)
    lose_image (nbd, &why);
  else
    nbd->why = why;
  nbd->tries++;
  nbd->next_try_ns = now_monotonic_ns () + RETRY_INTERVAL;
  pthread_cond_broadcast (&nbd->tried);
}

/* Is there a link for a request?  The lock is held. */
static bool
has_link (const struct nbd_image *nbd)
{
  return !nbd->lost && !nbd->interrupted && nbd->link && !nbd->down;
}

/* Flush; the lock is held. */
static void
try_flush (struct nbd_image *nbd)
{
  struct nbd_link *link = nbd->link;
  const uint64_t upto = nbd->log.next;
  struct error e;
  int r = 0;

  nbd->flush_ns = 0;
  if (!has_link (nbd))
    return;                     /* when there is another */
  link->refs++;
  pthread_mutex_unlock (&nbd->lock);
  if (link->info.can_flush)
    r = nbd_conn_flush (nbd_link_pick (link));
  pthread_mutex_lock (&nbd->lock);
  link->refs--;
  if (r == 0)
    nbd_log_flushed (&nbd->log, upto);
  else if (r == ENOTCONN || r == ESHUTDOWN || r == ENOMEM)
    nbd->down = true;           /* the log tells what it has when it is back */
  else {
    error_set_errno (&e, r, "%s: the server cannot flush what was written",
                     nbd->name);
    lose_image (nbd, &e);
  }
  pthread_cond_broadcast (&nbd->tried);
}

/* The lock is held. */
static void
keep (struct nbd_image *nbd)
{
  struct timespec until;

  while (!nbd->stop) {
    if (nbd->wanted && !nbd->lost && !nbd->interrupted)
      try_connect (nbd);
    else if (nbd->flush_ns == 0)
      pthread_cond_wait (&nbd->wake, &nbd->lock);
    else if (nbd->flush_ns > now_monotonic_ns ()) {
      until = cond_until (nbd->flush_ns);
      pthread_cond_timedwait (&nbd->wake, &nbd->lock, &until);
    }
    else
      try_flush (nbd);
  }
  close_link (nbd);
}

void *
nbd_keeper_run (void *opaque)
{
  struct nbd_image *nbd = opaque;
  bool abandoned;

  {
    LOCK_FOR_SCOPE (&nbd->lock);
    keep (nbd);
    nbd->ended = true;
    abandoned = nbd->abandoned;
    pthread_cond_broadcast (&nbd->tried);
  }
  if (abandoned)
    nbd_keeper_free (nbd);
  return NULL;
}

/* Have the keeper try to connect, and wait for it.  The lock is held. */
static void
await_link (struct nbd_image *nbd)
{
  const uint64_t tries = nbd->tries;
  struct timespec until;

  if (!nbd->wanted) {
    nbd->wanted = true;
    nbd->wanted_until_ns = now_monotonic_ns () + LINK_WAIT;
    pthread_cond_signal (&nbd->wake);
  }
  until = cond_until (nbd->wanted_until_ns);
  while (nbd->tries == tries && !nbd->lost && !nbd->interrupted)
    if (pthread_cond_timedwait (&nbd->tried, &nbd->lock,
                                &until) == ETIMEDOUT) {
      error_set (&nbd->why, EIO, "%s: cannot connect: it takes too long; "
                 "the server will be used when it is ready", nbd->name);
      return;
    }
}

struct nbd_link *
nbd_keeper_get (struct nbd_image *nbd, struct error *e)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  if (has_link (nbd) && !nbd_link_alive (nbd->link))
    nbd->down = true;
  if (!has_link (nbd) && !nbd->lost && !nbd->interrupted &&
      (nbd->wanted || now_monotonic_ns () >= nbd->next_try_ns))
    await_link (nbd);
  if (has_link (nbd)) {
    nbd->link->refs++;
    return nbd->link;
  }
  if (nbd->interrupted)
    nbd_keeper_stopping (nbd, e);
  else {
    *e = nbd->why;
    /* The guest's disk has not gone away. */
    e->num = EIO;
  }
  return NULL;
}

int
nbd_keeper_stopping (const struct nbd_image *nbd, struct error *e)
{
  return error_set (e, ESHUTDOWN, "%s: this server is stopping, and waits no "
                    "longer for the target", nbd->name);
}

void
nbd_keeper_put (struct nbd_image *nbd, struct nbd_link *link)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  if (--link->refs == 1 && nbd->down)
    pthread_cond_signal (&nbd->wake);
}

void
nbd_keeper_ended (struct nbd_image *nbd, const struct nbd_link *link)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  if (nbd->link == link)
    nbd->down = true;
}

/* The lock is held. */
static void
arm_flush (struct nbd_image *nbd)
{
  const struct nbd_log *log = &nbd->log;
  const bool full = log->bytes >= FLUSH_BYTES ||
    log->next - log->unflushed >= FLUSH_RECORDS;

  if (nbd->flush_ns != 0 && !full)
    return;
  nbd->flush_ns = now_monotonic_ns () + (full ? 0 : FLUSH_INTERVAL);
  pthread_cond_signal (&nbd->wake);
}

void
nbd_keeper_wrote (struct nbd_image *nbd, const void *buf, uint64_t count,
                  uint64_t offset)
{
  const char *p = buf;
  uint64_t n, sum;

  for (; count > 0; count -= n, offset += n) {
    n = min_u64 (count, NBD_RECORD_MAX);
    sum = p ? nbd_log_sum (p, n) : NBD_LOG_SUM_ZERO;
    p = p ? p + n : NULL;
    LOCK_FOR_SCOPE (&nbd->lock);
    nbd_log_add (&nbd->log, offset, n, sum);
    arm_flush (nbd);
  }
}

void
nbd_keeper_forget (struct nbd_image *nbd, uint64_t offset, uint64_t count)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  nbd_log_forget (&nbd->log, offset, count);
}

int
nbd_keeper_flush (struct nbd_image *nbd, struct error *e)
{
  const struct timespec until = cond_until (now_monotonic_ns () + FLUSH_WAIT);
  struct nbd_link *link;
  uint64_t upto;

  {
    LOCK_FOR_SCOPE (&nbd->lock);
    upto = nbd->log.next;
    if (nbd->log.unflushed == upto && !nbd->lost)
      return 0;
  }
  link = nbd_keeper_get (nbd, e);
  if (link == NULL)
    return -1;
  nbd_keeper_put (nbd, link);

  LOCK_FOR_SCOPE (&nbd->lock);
  nbd->flush_ns = 1;            /* is over */
  pthread_cond_signal (&nbd->wake);
  while (nbd->log.unflushed < upto && has_link (nbd))
    if (pthread_cond_timedwait (&nbd->tried, &nbd->lock,
                                &until) == ETIMEDOUT)
      return error_set_errno (e, ETIMEDOUT, "%s: cannot flush", nbd->name);
  if (nbd->lost)
    *e = nbd->why;
  else if (nbd->log.unflushed >= upto)
    return 0;
  else if (nbd->interrupted)
    nbd_keeper_stopping (nbd, e);
  else
    error_set (e, EIO, "%s: cannot flush: the connection to the server was "
               "lost", nbd->name);
  return -1;
}

int
nbd_keeper_check (struct nbd_image *nbd, struct error *e)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  if (!nbd->lost)
    return 0;
  *e = nbd->why;
  return -1;
}

int
nbd_keeper_writable (const struct nbd_image *nbd, struct error *e)
{
  return nbd->flags & IMAGE_NBD_READONLY ?
    error_set (e, EPERM, "%s: was opened for reading", nbd->name) : 0;
}
