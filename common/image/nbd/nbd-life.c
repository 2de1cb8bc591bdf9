/* SPDX-License-Identifier: BSD-3-Clause */

/* The beginning and the end of an NBD image: starting its keeper, stopping it
 * in good order, and interrupting it when nobody may wait any longer.
 *
 * The images of the process are in a list, so that those can be interrupted,
 * too, which somebody is opening or closing just now.  Locks: that of the list
 * comes before an image's.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "image/nbd/nbd-keeper.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"

/* How long a predecessor may take to end. */
#define AGAIN_WAIT (2 * NS_PER_SEC)

/* How long the keeper may take to end: a command has ten seconds of it, or
 * two once the image is interrupted.
 */
#define STOP_WAIT (20 * NS_PER_SEC)
#define HURRY_WAIT (3 * NS_PER_SEC)

static struct {
  pthread_mutex_t lock;
  struct nbd_image *first;
  bool interrupted;             /* all, and those that are opened later */
} images = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- Interrupting ---- */

/* Whatever the keeper or a request waits for over a socket ends now.  The lock
 * is held.
 */
static void
cut_off (struct nbd_image *nbd)
{
  const uint64_t one = 1;

  if (write (nbd->cancel, &one, sizeof one) == sizeof one && nbd->trying)
    nbd_link_abort (nbd->trying);
  if (nbd->link && nbd->link->refs > 1)
    nbd_link_abort (nbd->link);
  pthread_cond_signal (&nbd->wake);
  pthread_cond_broadcast (&nbd->tried);
}

static void
interrupt_image (struct nbd_image *nbd)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  if (nbd->interrupted)
    return;
  nbd->interrupted_ns = now_monotonic_ns ();
  nbd->interrupted = true;
  cut_off (nbd);
}

void
image_nbd_interrupt (struct image *image)
{
  interrupt_image ((struct nbd_image *) image);
}

void
image_nbd_interrupt_all (void)
{
  struct nbd_image *nbd;

  LOCK_FOR_SCOPE (&images.lock);
  images.interrupted = true;
  for (nbd = images.first; nbd; nbd = nbd->next)
    interrupt_image (nbd);
}

static void
enter (struct nbd_image *nbd)
{
  LOCK_FOR_SCOPE (&images.lock);
  nbd->next = images.first;
  images.first = nbd;
  if (images.interrupted)
    interrupt_image (nbd);
}

static void
unlist_image (struct nbd_image *nbd)
{
  struct nbd_image **p;

  LOCK_FOR_SCOPE (&images.lock);
  for (p = &images.first; *p; p = &(*p)->next)
    if (*p == nbd) {
      *p = nbd->next;
      return;
    }
}

/* ---- Starting ---- */

int
nbd_keeper_init (struct nbd_image *nbd, struct error *e)
{
  pthread_mutex_init (&nbd->lock, NULL);
  cond_init (&nbd->wake);
  cond_init (&nbd->tried);
  nbd->cancel = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (nbd->cancel == -1)
    return error_set_errno (e, errno, "%s", nbd->name);
  if (nbd_log_init (&nbd->log) == -1)
    return error_set_errno (e, ENOMEM, "%s", nbd->name);
  if (nbd->again)
    nbd_log_recall (&nbd->log, nbd->words, nbd->size,
                    nbd->flags & IMAGE_NBD_FLUSHED);
  enter (nbd);
  return 0;
}

/* Is there any use in trying once more? */
static bool
may_be_back (struct nbd_image *nbd)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  return nbd->again && !nbd->lost && !nbd->interrupted;
}

int
nbd_keeper_start (struct nbd_image *nbd, struct error *e)
{
  const uint64_t give_up = now_monotonic_ns () + AGAIN_WAIT;
  const struct timespec pause = { .tv_nsec = NBD_RETRY_INTERVAL };
  struct nbd_link *link;
  struct error ignored;
  int r;

  r = thread_start (&nbd->keeper, nbd_keeper_run, nbd);
  if (r != 0)
    return error_set_errno (e, r, "%s: cannot start a thread", nbd->name);
  nbd->started = true;
  while ((link = nbd_keeper_get (nbd, e)) == NULL && may_be_back (nbd) &&
         now_monotonic_ns () < give_up)
    nanosleep (&pause, NULL);
  if (link) {
    nbd_keeper_put (nbd, link);
    return 0;
  }
  /* An image that was there before may be there later. */
  return nbd->again && nbd_keeper_check (nbd, &ignored) == 0 ? 0 : -1;
}

/* ---- Stopping ---- */

/* Until when may the keeper take?  The lock is held. */
static uint64_t
stop_until (const struct nbd_image *nbd, uint64_t begin)
{
  return nbd->interrupted ?
    min_u64 (max_u64 (begin, nbd->interrupted_ns) + HURRY_WAIT,
             begin + STOP_WAIT) : begin + STOP_WAIT;
}

/* Has the keeper ended in time?  The lock is held. */
static bool
await_end (struct nbd_image *nbd)
{
  const uint64_t begin = now_monotonic_ns ();
  struct timespec until;

  while (!nbd->ended && now_monotonic_ns () < stop_until (nbd, begin)) {
    until = cond_until (stop_until (nbd, begin));
    pthread_cond_timedwait (&nbd->tried, &nbd->lock, &until);
  }
  return nbd->ended;
}

/* The keeper comes back into this code some day, so the code must stay. */
static void
keep_loaded (void)
{
  Dl_info info;

  if (dladdr (&images, &info) != 0)
    dlopen (info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

void
nbd_keeper_stop (struct nbd_image *nbd)
{
  LOCK_FOR_SCOPE (&nbd->lock);
  nbd->stop = true;
  cut_off (nbd);                /* if the link is in use it is flushing */
}

bool
nbd_keeper_join (struct nbd_image *nbd)
{
  const pthread_t keeper = nbd->keeper;
  bool ended;

  if (!nbd->started)
    return true;
  {
    LOCK_FOR_SCOPE (&nbd->lock);
    ended = await_end (nbd);
    nbd->abandoned = !ended;
  }
  if (ended) {
    pthread_join (keeper, NULL);
    return true;
  }
  keep_loaded ();
  pthread_detach (keeper);
  return false;
}

void
nbd_keeper_free (struct nbd_image *nbd)
{
  unlist_image (nbd);
  if (nbd->cancel >= 0)
    close (nbd->cancel);
  nbd_log_destroy (&nbd->log);
  pthread_cond_destroy (&nbd->tried);
  pthread_cond_destroy (&nbd->wake);
  pthread_mutex_destroy (&nbd->lock);
  nbd_address_free (&nbd->address);
  free (nbd->name);
  free (nbd);
}
