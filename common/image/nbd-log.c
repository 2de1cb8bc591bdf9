/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "iszero.h"
#include "nbd-log.h"
#include "rounding.h"

int
nbd_log_init (struct nbd_log *log)
{
  *log = (struct nbd_log) { .ring = calloc (NBD_LOG_MAX, sizeof *log->ring) };
  return log->ring ? 0 : -1;
}

void
nbd_log_destroy (struct nbd_log *log)
{
  free (log->ring);
}

/* Four lanes, so that a multiplication need not wait for the one before.
 * It tells data that was lost from data that is there, not attackers.
 */
uint64_t
nbd_log_sum (const void *buf, size_t count)
{
  static const uint64_t k = UINT64_C (0x9e3779b97f4a7c15);
  const unsigned char *p = buf;
  uint64_t lane[4] = { 1, 2, 3, 4 }, word[4], sum;
  size_t i;

  if (is_zero (buf, count))
    return NBD_LOG_SUM_ZERO;
  sum = count;
  for (; count >= sizeof word; count -= sizeof word, p += sizeof word) {
    memcpy (word, p, sizeof word);
    for (i = 0; i < 4; ++i) {
      lane[i] = (lane[i] ^ word[i]) * k;
      lane[i] ^= lane[i] >> 29;
    }
  }
  for (; count > 0; --count)
    sum = (sum ^ *p++) * k;
  for (i = 0; i < 4; ++i) {
    sum = (sum ^ lane[i]) * k;
    sum ^= sum >> 32;
  }
  return sum == NBD_LOG_SUM_ZERO ? 1 : sum;
}

void
nbd_log_add (struct nbd_log *log, uint64_t offset, uint64_t count,
             uint64_t sum)
{
  if (log->next - log->first == NBD_LOG_MAX) {
    if (log->first == log->unflushed) {
      log->unflushed++;
      log->overflow = true;
    }
    log->first++;
  }
  *nbd_log_record (log, log->next++) = (struct nbd_record) {
    .offset = offset, .count = count, .sum = sum
  };
  log->bytes += count;
}

void
nbd_log_forget (struct nbd_log *log, uint64_t offset, uint64_t count)
{
  struct nbd_record *r;
  uint64_t i;

  for (i = log->first; i < log->next; ++i) {
    r = nbd_log_record (log, i);
    if (r->offset < offset + count && offset < r->offset + r->count)
      r->count = 0;
  }
}

void
nbd_log_flushed (struct nbd_log *log, uint64_t upto)
{
  if (upto < log->unflushed)
    return;
  log->unflushed = upto;
  log->first = max_u64 (log->first, upto - min_u64 (upto, NBD_LOG_WITNESSES));
  log->overflow = false;        /* the oldest go first */
  log->bytes = 0;
  for (uint64_t i = upto; i < log->next; ++i)
    log->bytes += nbd_log_record (log, i)->count;
}
