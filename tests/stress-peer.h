/* SPDX-License-Identifier: BSD-3-Clause */

/* The stress test's connections, and what all its threads share. */

#ifndef CBW_STRESS_PEER_H
#define CBW_STRESS_PEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libnbd.h>

#include "stress-oracle.h"

struct stress {
  /* The parameters: see stress-driver.c. */
  const char *disk, *snap, *until, *backups;
  uint64_t size, seed, seconds, writers, readers, blank, max, reconnect;
  uint64_t guest_errors, view_errors;

  struct model model;
  pthread_rwlock_t changing;    /* see struct stress_backups */
  uint64_t deadline;            /* monotonic, ns, unless "until" is set */

  /* So far. */
  _Atomic (uint64_t) nr_errors, nr_changes, nr_reads, nr_reconnects;
  _Atomic (uint64_t) slowest_ns; /* of the changes */
};
extern struct stress stress;

/* One connection of one thread. */
struct peer {
  const char *uri;
  const char *what;             /* "writer" or "reader" */
  unsigned index;
  uint64_t seed;
  struct nbd_handle *nbd;
  unsigned char *buf, *expected; /* of opt.max bytes */
};

/* Say what is wrong, and end the program. */
__attribute__ ((format (printf, 2, 3), noreturn))
extern void peer_die (const struct peer *p, const char *fmt, ...);

/* Connect, as uri, what, index and seed are set; disconnect. */
extern void peer_start (struct peer *p);
extern void peer_end (struct peer *p);

/* A request has failed: is it one that may?  "may": such requests may. */
extern bool peer_may_fail (const struct peer *p, bool may);

/* A request of the view has failed, or of the disk: is it one that may? */
extern bool peer_view_may_fail (const struct peer *p);

/* A request has failed.  If the server was killed, connect again; then
 * the caller finds out what became of the request.
 */
extern void peer_failed (struct peer *p, const char *what, uint64_t count,
                         uint64_t offset);

/* Read into p->buf.  False if the view is broken, and may be. */
extern bool peer_read (struct peer *p, uint64_t count, uint64_t offset);

#endif /* CBW_STRESS_PEER_H */
