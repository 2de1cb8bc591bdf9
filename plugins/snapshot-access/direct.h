/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a snapshot without asking the filter, where the disk and the targets
 * are local files (docs/correctness.md, section 23).
 *
 * Each of the two functions that read returns false if it cannot, or cannot
 * be sure; then the caller asks the filter.  Many threads may call them at
 * once.  They wait for nobody but the kernel, large reads for their turn, and
 * the first of a generation for the filter.
 */

#ifndef CBW_DIRECT_H
#define CBW_DIRECT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "direct-chain.h"
#include "request/client.h"

/* For one connection. */
struct direct {
  struct client *client;
  uint64_t id;                  /* of the snapshot */
  const char *name;             /* the same, for messages */
  bool off;

  pthread_mutex_t lock;         /* for the rest; held for moments */
  struct cached *cached;        /* or NULL */
  bool asking;                  /* a thread asks for a new one */
  uint64_t ask_again;           /* monotonic ns: not before that, */
  uint64_t refused;             /* unless the generation is another */

  struct direct *next;          /* of all in this process */
};

/* A thread that closes what connections do not use any more, so that they do
 * not keep the space of dropped snapshots.
 */
extern int direct_start (void);
extern void direct_stop (void);

/* "on": try to read directly.  The strings and the client stay. */
extern void direct_init (struct direct *d, struct client *client, bool on,
                         uint64_t id, const char *name);
extern void direct_free (struct direct *d);

/* Read count bytes at offset, which are in the snapshot. */
extern bool direct_read (struct direct *d, void *buf, uint32_t count,
                         uint64_t offset);

/* Ask for the extents of a range: they are given to add() as in
 * request_extents, whose result goes to *r.
 */
extern bool direct_extents (struct direct *d, uint32_t count, uint64_t offset,
                            int (*add) (void *opaque, uint64_t offset,
                                        uint64_t length, uint32_t type),
                            void *opaque, int *r);

#endif /* CBW_DIRECT_H */
