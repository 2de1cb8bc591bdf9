/* SPDX-License-Identifier: BSD-3-Clause */

/* What an NBD server has acknowledged and not flushed yet.
 *
 * NBD promises nothing of a write that was not flushed: if the server's
 * process or host dies, it may be gone, and a server that is back after
 * that does not say so.  It looks like one whose connection was cut.  A
 * qemu-nbd that was killed has forgotten which clusters of its qcow2 image
 * it had given out, and they read as zeroes.
 *
 * So a checksum of each write is kept until the next flush, and a new
 * connection is trusted when all that they are of reads as it was written.
 * The last few are kept after the flush too, and in memory that outlives
 * the process: they tell a server that never kept anything (nbdkit memory,
 * say), or another image.
 *
 * Not thread-safe: the image locks it.
 */

#ifndef CBW_NBD_LOG_H
#define CBW_NBD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_LOG_MAX 16384       /* records, a power of two */
#define NBD_LOG_WITNESSES 8     /* kept after a flush */
#define NBD_RECORD_MAX (UINT64_C (4) << 20) /* bytes of one */

struct nbd_record {
  uint64_t offset;              /* bytes */
  uint64_t count;               /* 0: not to be looked at any more */
  uint64_t sum;
};

/* Records are numbered from 0 on; those from "first" to "next" are here,
 * and those from "unflushed" on are not known to be on stable storage.
 */
struct nbd_log {
  uint64_t first, unflushed, next;
  uint64_t bytes;               /* not flushed */
  bool overflow;                /* and one of those is not here */
  _Atomic (uint64_t) *words;    /* or NULL: see image_nbd_reopen */
  struct nbd_record *ring;      /* NBD_LOG_MAX */
};

extern int nbd_log_init (struct nbd_log *log); /* -1: no memory */
extern void nbd_log_destroy (struct nbd_log *log);

/* Begin with what the words tell of, as far as it lies below "size".
 * "flushed": all of it is on stable storage.
 */
extern void nbd_log_recall (struct nbd_log *log, _Atomic (uint64_t) *words,
                            uint64_t size, bool flushed);

/* A checksum of data; that of zeroes is that of any number of them. */
extern uint64_t nbd_log_sum (const void *buf, size_t count);
#define NBD_LOG_SUM_ZERO UINT64_C (0)

/* It was acknowledged that these bytes hold data with this sum. */
extern void nbd_log_add (struct nbd_log *log, uint64_t offset,
                         uint64_t count, uint64_t sum);

/* The range is not needed any more. */
extern void nbd_log_forget (struct nbd_log *log, uint64_t offset,
                            uint64_t count);

/* All before number "upto" is on stable storage. */
extern void nbd_log_flushed (struct nbd_log *log, uint64_t upto);

static inline struct nbd_record *
nbd_log_record (const struct nbd_log *log, uint64_t number)
{
  return &log->ring[number & (NBD_LOG_MAX - 1)];
}

#endif /* CBW_NBD_LOG_H */
