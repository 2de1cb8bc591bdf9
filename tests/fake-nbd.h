/* SPDX-License-Identifier: BSD-3-Clause */

/* An NBD server in the test's own process, which breaks the protocol where
 * the test wants: it negotiates well, and then hands each request to a
 * function of the test's.
 *
 *   struct fake *f = fake_start (my_function, NULL);
 *   struct image *image = nbd_env_open (0);
 *   ...
 *   fake_stop (f);
 *
 * Each connection has a thread, so my_function may be called by several at
 * once.  A function that wants to hang calls fake_hang, which comes back when
 * the client has gone or the server is stopped.
 */

#ifndef CBW_FAKE_NBD_H
#define CBW_FAKE_NBD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_SIZE (UINT64_C (8) << 20) /* unless the test sets another */

/* Transmission flags, all of which are offered unless the test clears some. */
#define FAKE_CAN_FLUSH 0x4u
#define FAKE_CAN_TRIM 0x20u
#define FAKE_CAN_ZERO 0x40u
#define FAKE_CAN_FAST_ZERO 0x800u
#define FAKE_CAN_ALL 0x864u
#define FAKE_MULTI_CONN 0x100u

enum fake_type {
  FAKE_READ = 0, FAKE_WRITE = 1, FAKE_DISC = 2, FAKE_FLUSH = 3,
  FAKE_TRIM = 4, FAKE_ZERO = 6, FAKE_STATUS = 7,
};
#define FAKE_TYPES 8
#define FAKE_FLAG_FAST 16u      /* of a FAKE_ZERO */

struct fake_request {
  struct fake *fake;
  int fd;
  uint16_t flags;
  enum fake_type type;
  uint64_t cookie, offset;
  uint32_t count;
  const unsigned char *data;    /* of a write */
};

struct fake {
  void (*handle) (struct fake_request *rq); /* NULL: fake_serve */
  uint64_t size;                /* of the export, bytes */
  unsigned flags;               /* FAKE_CAN_*, FAKE_MULTI_CONN */
  bool mute;                    /* accepts, and never says a word */
  bool no_status;               /* has no base:allocation */
  unsigned char *store;         /* FAKE_SIZE bytes */
  _Atomic (unsigned) connections;
  _Atomic (unsigned) requests[FAKE_TYPES];
  _Atomic (bool) hanging;       /* somebody is in fake_hang */
  struct fake_private *private;
};

/* Start it at nbd_env.path.  "configure" may be NULL: it changes the fields
 * before anybody connects.
 */
extern struct fake *fake_start (void (*handle) (struct fake_request *),
                                void (*configure) (struct fake *));
extern void fake_stop (struct fake *f);

/* Serve the request well, from "store". */
extern void fake_serve (struct fake_request *rq);

/* Parts of replies.  "done": it is the last chunk. */
extern void fake_simple (struct fake_request *rq, uint32_t error);
extern void fake_none (struct fake_request *rq);
extern void fake_data (struct fake_request *rq, bool done, uint64_t offset,
                       uint32_t count);
extern void fake_hole (struct fake_request *rq, bool done, uint64_t offset,
                       uint32_t count);

/* Block status: n pairs of length and type. */
extern void fake_status (struct fake_request *rq, unsigned n,
                         const uint32_t *pairs);

/* Do not answer. */
extern void fake_hang (struct fake_request *rq);

#endif /* CBW_FAKE_NBD_H */
