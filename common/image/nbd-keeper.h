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

#include "error.h"
#include "image.h"
#include "nbd-link.h"
#include "nbd-log.h"

struct nbd_image {
  struct image image;           /* first */
  char *name;                   /* for messages */
  struct nbd_address address;   /* owned */
  unsigned flags;               /* IMAGE_NBD_* */
  uint64_t size;                /* bytes the export must have at least */
  uint32_t block;               /* the server's minimum block size */
  bool again;                   /* by image_nbd_reopen, with these: */
  _Atomic (uint64_t) *words;

  pthread_t keeper;
  int cancel;                   /* eventfd: connecting is to be given up */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t wake;          /* the keeper has something to do */
  pthread_cond_t tried;         /* it has tried to connect */
  struct nbd_link *link;        /* or NULL; used up if refs is 1 and "down" */
  bool down;                    /* no new requests over the link */
  bool wanted;                  /* another link is */
  bool stop;
  bool lost;                    /* for good */
  uint64_t tries;               /* to connect, so far */
  uint64_t next_try_ns;         /* not before, of now_monotonic_ns */
  uint64_t flush_ns;            /* the same; 0: nothing to flush */
  struct error why;             /* why there is no link, or it is lost */
  struct nbd_log log;
};

/* Start it; what stands above "keeper" is filled in, the rest is zero.
 * With "again" it is no error if the server cannot be reached.
 */
extern int nbd_keeper_start (struct nbd_image *nbd, struct error *e);

/* End it and close the link.  Nobody uses the image any more. */
extern void nbd_keeper_stop (struct nbd_image *nbd);

/* The link for a request, and give it back.  If there is none, have one
 * made, unless the last try was a moment ago.  NULL with the error set.
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

#endif /* CBW_NBD_KEEPER_H */
