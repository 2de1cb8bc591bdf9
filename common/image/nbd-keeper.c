/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "nbd-keeper.h"
#include "nbd-verify.h"
#include "nbd.h"
#include "rounding.h"
#include "threads.h"

/* How long one try to connect may take, and how long after one that
 * failed the next is made at the earliest.
 */
#define CONNECT_WAIT (10 * NS_PER_SEC)
#define RETRY_INTERVAL (100 * NS_PER_MS)

/* How long a predecessor may take to end. */
#define AGAIN_WAIT (2 * NS_PER_SEC)

/* What was written is flushed after so long, or when it is so much. */
#define FLUSH_INTERVAL (5 * NS_PER_SEC)
#define FLUSH_BYTES (UINT64_C (256) << 20)
#define FLUSH_RECORDS (NBD_LOG_MAX / 2)

/* How long a flush that somebody asked for may take. */
#define FLUSH_WAIT (30 * NS_PER_SEC)

/* For good; the lock is held. */
static void
lose (struct nbd_image *nbd, const struct error *e)
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

/* Try once to have a link; the lock is held. */
static void
try_connect (struct nbd_image *nbd)
{
  struct nbd_link *link;
  struct error e, why;
  int ok = 0;

  if ((nbd->flags & IMAGE_NBD_ONCE) && nbd->tries > 0) {
    error_set (&why, EIO, "%s: the connection to the server was lost",
               nbd->name);
    lose (nbd, &why);
    nbd->wanted = false;
    return;
  }
  close_link (nbd);
  pthread_mutex_unlock (&nbd->lock);
  link = nbd_link_open (&nbd->address, now_monotonic_ns () + CONNECT_WAIT,
                        nbd->cancel, &e);
  if (link == NULL)
    error_set (&why, e.num, "%s: cannot connect: %s", nbd->name, e.msg);
  else {
    ok = nbd_verify_info (nbd, link, &why);
    if (ok == 1)
      ok = nbd_verify_log (nbd, link, &why);
    if (ok != 1)
      nbd_link_close (link);
  }

  pthread_mutex_lock (&nbd->lock);
  nbd->wanted = false;
  if (ok == 1) {
    nbd->link = link;
    nbd->down = false;
    if (nbd->size == 0)
      nbd->size = link->info.size;
    nbd->block = link->info.minimum_block;
    if (nbd->log.unflushed < nbd->log.next)
      nbd->flush_ns = now_monotonic_ns () + FLUSH_INTERVAL;
  }
  else if (ok == -1)
    lose (nbd, &why);
  else
    nbd->why = why;
  nbd->tries++;
  nbd->next_try_ns = now_monotonic_ns () + RETRY_INTERVAL;
  pthread_cond_broadcast (&nbd->tried);
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
  if (link == NULL || nbd->down)
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
    nbd->down = true;           /* the log tells what it has, when it is back */
  else {
    error_set_errno (&e, r, "%s: the server cannot flush what was written",
                     nbd->name);
    lose (nbd, &e);
  }
  pthread_cond_broadcast (&nbd->tried);
}

static void *
keeper (void *opaque)
{
  struct nbd_image *nbd = opaque;
  struct timespec until;

  LOCK_FOR_SCOPE (&nbd->lock);
  while (!nbd->stop) {
    if (nbd->wanted && !nbd->lost)
      try_connect (nbd);
    else if (nbd->flush_ns == 0)
      pthread_cond_wait (&nbd->wake, &nbd->lock);
    else if (nbd->flush_ns > now_monotonic_ns ()) {
      until = deadline (nbd->flush_ns);
      pthread_cond_timedwait (&nbd->wake, &nbd->lock, &until);
    }
    else
      try_flush (nbd);
  }
  close_link (nbd);
  return NULL;
}

int
nbd_keeper_start (struct nbd_image *nbd, struct error *e)
{
  const uint64_t give_up = now_monotonic_ns () + AGAIN_WAIT;
  const struct timespec pause = { .tv_nsec = RETRY_INTERVAL };
  struct nbd_link *link;
  bool lost;
  int r;

  nbd->cancel = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (nbd->cancel == -1)
    return error_set_errno (e, errno, "%s", nbd->name);
  if (nbd_log_init (&nbd->log) == -1) {
    close (nbd->cancel);
    return error_set_errno (e, ENOMEM, "%s", nbd->name);
  }
  if (nbd->again)
    nbd_log_recall (&nbd->log, nbd->words, nbd->size,
                    nbd->flags & IMAGE_NBD_FLUSHED);
  pthread_mutex_init (&nbd->lock, NULL);
  cond_init (&nbd->wake);
  cond_init (&nbd->tried);
  r = thread_start (&nbd->keeper, keeper, nbd);
  if (r != 0) {
    nbd_log_destroy (&nbd->log);
    close (nbd->cancel);
    return error_set_errno (e, r, "%s: cannot start a thread", nbd->name);
  }

  while ((link = nbd_keeper_get (nbd, e)) == NULL) {
    pthread_mutex_lock (&nbd->lock);
    lost = nbd->lost;
    pthread_mutex_unlock (&nbd->lock);
    if (nbd->again && !lost &&
        now_monotonic_ns () < give_up) {
      nanosleep (&pause, NULL);
      continue;
    }
    if (nbd->again && !lost)
      return 0;
    nbd_keeper_stop (nbd);
    return -1;
  }
  nbd_keeper_put (nbd, link);
  return 0;
}

void
nbd_keeper_stop (struct nbd_image *nbd)
{
  const uint64_t one = 1;

  pthread_mutex_lock (&nbd->lock);
  nbd->stop = true;
  if (write (nbd->cancel, &one, sizeof one) == sizeof one &&
      nbd->link && nbd->link->refs > 1)
    nbd_link_abort (nbd->link); /* it is flushing */
  pthread_cond_signal (&nbd->wake);
  pthread_mutex_unlock (&nbd->lock);
  pthread_join (nbd->keeper, NULL);
  close (nbd->cancel);
  nbd_log_destroy (&nbd->log);
  pthread_cond_destroy (&nbd->tried);
  pthread_cond_destroy (&nbd->wake);
  pthread_mutex_destroy (&nbd->lock);
}

struct nbd_link *
nbd_keeper_get (struct nbd_image *nbd, struct error *e)
{
  uint64_t tries;

  LOCK_FOR_SCOPE (&nbd->lock);
  if (!nbd->lost && nbd->link && !nbd->down && !nbd_link_alive (nbd->link))
    nbd->down = true;
  if (!nbd->lost && (nbd->link == NULL || nbd->down) &&
      (nbd->wanted || now_monotonic_ns () >= nbd->next_try_ns)) {
    tries = nbd->tries;
    nbd->wanted = true;
    pthread_cond_signal (&nbd->wake);
    while (nbd->tries == tries && !nbd->lost)
      pthread_cond_wait (&nbd->tried, &nbd->lock);
  }
  if (nbd->lost || nbd->link == NULL || nbd->down) {
    *e = nbd->why;
    /* The guest's disk has not gone away. */
    e->num = EIO;
    return NULL;
  }
  nbd->link->refs++;
  return nbd->link;
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
  const struct timespec until = deadline (now_monotonic_ns () + FLUSH_WAIT);
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
  while (nbd->log.unflushed < upto && !nbd->lost && nbd->link && !nbd->down)
    if (pthread_cond_timedwait (&nbd->tried, &nbd->lock,
                                &until) == ETIMEDOUT)
      return error_set_errno (e, ETIMEDOUT, "%s: cannot flush", nbd->name);
  if (nbd->lost)
    *e = nbd->why;
  else if (nbd->log.unflushed >= upto)
    return 0;
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
