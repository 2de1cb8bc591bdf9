/* SPDX-License-Identifier: BSD-3-Clause */

/* Locks on single bytes of the segment file tell which processes live.  The
 * kernel drops them at death, so no pid is ever trusted.
 */

#ifndef CBW_LIVENESS_H
#define CBW_LIVENESS_H

#include "utils/ofdlock.h"

#define LIVENESS_SERVER_BYTE 0
#define LIVENESS_CLIENT_BYTE(i) (1 + (uint64_t) (i))
/* Held by the one client that reads snapshot entry i and discards it. */
#define LIVENESS_CONSUMER_BYTE(i) (4096 + (uint64_t) (i))

/* Become the server of the segment open at fd, or client i.
 * Returns 1 if so, 0 if another process is, -1 on error (errno).
 */
static inline int
liveness_take_server (int fd)
{
  return ofdlock_try (fd, LIVENESS_SERVER_BYTE, 1);
}

static inline int
liveness_take_client (int fd, unsigned i)
{
  return ofdlock_try (fd, LIVENESS_CLIENT_BYTE (i), 1);
}

/* Become the one consumer of snapshot entry i, or stop being it. */
static inline int
liveness_take_consumer (int fd, unsigned i)
{
  return ofdlock_try (fd, LIVENESS_CONSUMER_BYTE (i), 1);
}

static inline void
liveness_release_consumer (int fd, unsigned i)
{
  ofdlock_release (fd, LIVENESS_CONSUMER_BYTE (i), 1);
}

/* Seen from another open of the file: is the server, or client i, alive?
 * If the kernel cannot tell, the answer is yes: nobody is declared dead
 * by mistake.
 */
static inline int
liveness_server (int fd)
{
  return ofdlock_held (fd, LIVENESS_SERVER_BYTE, 1) != 0;
}

static inline int
liveness_client (int fd, unsigned i)
{
  return ofdlock_held (fd, LIVENESS_CLIENT_BYTE (i), 1) != 0;
}

#endif /* CBW_LIVENESS_H */
