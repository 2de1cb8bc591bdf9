/* SPDX-License-Identifier: BSD-3-Clause */

/* Open-file-description locks (fcntl(2), F_OFD_SETLK): they belong to
 * the open file, not to the process or thread, and the kernel drops
 * them when the last descriptor of that open file is closed, however
 * the process ends.  Open the file with O_CLOEXEC, and after the last
 * fork, or a child keeps the lock alive.
 */

#ifndef CBW_OFDLOCK_H
#define CBW_OFDLOCK_H

#include <stdint.h>

/* Take the exclusive lock on bytes [start, start+len) without waiting;
 * len 0 means to the end of the file however far it grows.
 * Returns 1 taken, 0 somebody else holds it, -1 error (errno).
 */
extern int ofdlock_try (int fd, uint64_t start, uint64_t len);

/* Give bytes [start, start+len) back. */
extern void ofdlock_release (int fd, uint64_t start, uint64_t len);

/* Does another open file hold a lock in [start, start+len)?  Locks held
 * through fd itself do not count.  Returns 1 yes, 0 no, -1 error (errno).
 */
extern int ofdlock_held (int fd, uint64_t start, uint64_t len);

#endif /* CBW_OFDLOCK_H */
