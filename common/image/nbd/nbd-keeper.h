/* SPDX-License-Identifier: BSD-3-Clause */

/* The keeper: a thread that every NBD image has, from opening to closing.
 * It connects, once and again, and flushes now and then.
 *
 * Why a thread?  A command that is started for the image may have asked to
 * be ended with its parent, and for the kernel that is the thread that
 * started it: guests' threads come and go.  It may also take long to
 * connect, and who watches the image must not wait.
 */

#ifndef CBW_NBD_KEEPER_H
#define CBW_NBD_KEEPER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "image/nbd/nbd-link.h"
#include "image/nbd/nbd-log.h"
#include "utils/error.h"

struct nbd_image {
  struct image image;           /* first */
  char *name;                   /* for messages */
  struct nbd_address address;   /* owned */
  unsigned flags;               /* IMAGE_NBD_* */
  uint64_t size;                /* bytes the export must have at least */
  uint32_t block;               /* the server's minimum block size */
  bool again;                   /* by image_nbd_reopen, with these: */
  _Atomic (uint64_t) *words;

  struct nbd_image *next;       /* of all there are: nbd-life.c */

  pthread_t keeper;
  bool started;                 /* that is */
  int cancel;                   /* eventfd: connecting is to be given up */
  _Atomic (bool) interrupted;   /* every request fails; set under the lock */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t wake;          /* the keeper has something to do */
  pthread_cond_t tried;         /* it has tried to connect, or has ended */
  struct nbd_link *link;        /* or NULL; used up if refs is 1 and "down" */
  bool down;                    /* no new requests over the link */
  struct nbd_link *trying;      /* is being verified, or NULL */
  bool wanted;                  /* another link is */
  uint64_t wanted_until_ns;     /* requests wait for it no longer */
  bool stop;
  bool ended;                   /* the keeper has closed the link */
  bool abandoned;               /* it has not in time, and frees the image */
  uint64_t interrupted_ns;      /* when it was */
  bool lost;                    /* for good */
  uint64_t tries;               /* to connect, so far */
  uint64_t next_try_ns;         /* not before, of now_monotonic_ns */
  uint64_t flush_ns;            /* the same; 0: nothing to flush */
  struct error why;             /* why there is no link, or it is lost */
  struct nbd_log log;
};

/* After a try to connect that failed the next is made no sooner. */
#define NBD_RETRY_INTERVAL (100 * NS_PER_MS)

/* The life of a keeper has the words of threads.h.
 *
 * What stands above "next" is filled in, the rest is zero.  0, or -1 with the
 * error set; either way it must be stopped, joined and freed.
 */
extern int nbd_keeper_init (struct nbd_image *nbd, struct error *e);

/* Start the thread, and wait for the first link.  With "again" it is no error
 * if the server cannot be reached.  0, or -1 with the error set.
 */
extern int nbd_keeper_start (struct nbd_image *nbd, struct error *e);

/* Nobody uses the image any more, but image_nbd_interrupt_all. */
extern void nbd_keeper_stop (struct nbd_image *nbd);

/* Wait until the link is closed: 20 seconds at most, or three from when the
 * image is interrupted.  If this returns false the image is the keeper's,
 * which frees it when it ends: it is not to be used any more.
 */
extern bool nbd_keeper_join (struct nbd_image *nbd);

/* Free the image. */
extern void nbd_keeper_free (struct nbd_image *nbd);

/* The thread, which nbd_keeper_start starts. */
extern void *nbd_keeper_run (void *nbd);

/* Set the error to ESHUTDOWN: the image was interrupted.  Returns -1. */
extern int nbd_keeper_stopping (const struct nbd_image *nbd,
                                struct error *e);

/* The link for a request, and give it back.  If there is none, have one
 * made, unless the last try was a moment ago; wait eleven seconds at most from
 * when the first request wanted it.  NULL with the error set.
 */
extern struct nbd_link *nbd_keeper_get (struct nbd_image *nbd,
                                        struct error *e);
extern void nbd_keeper_put (struct nbd_image *nbd, struct nbd_link *link);

/* While the link is in use: one of its connections has ended, so no request
 * is to begin over it any more.
 */
extern void nbd_keeper_ended (struct nbd_image *nbd,
                              const struct nbd_link *link);

/* While the link is in use: a write was acknowledged.  NULL: zeroes. */
extern void nbd_keeper_wrote (struct nbd_image *nbd, const void *buf,
                              uint64_t count, uint64_t offset);

/* The range is about to be trimmed. */
extern void nbd_keeper_forget (struct nbd_image *nbd, uint64_t offset,
                               uint64_t count);

/* Have all flushed that has been written; gives up after 30 seconds.  A
 * server that cannot flush has lost data, so the image is lost.
 */
extern int nbd_keeper_flush (struct nbd_image *nbd, struct error *e);

/* -1 with the error set if the image is lost.  Does not wait. */
extern int nbd_keeper_check (struct nbd_image *nbd, struct error *e);

/* -1 with the error set if the image was opened for reading. */
extern int nbd_keeper_writable (const struct nbd_image *nbd,
                                struct error *e);

#endif /* CBW_NBD_KEEPER_H */
