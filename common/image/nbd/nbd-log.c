/* SPDX-License-Identifier: BSD-3-Clause */

/* The list of acknowledged writes and its checksums: nbd-log.h. */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/nbd/nbd-log.h"
#include "utils/iszero.h"
#include "utils/rounding.h"

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

/* The words of record number i: offset, count, sum.  The count is 0 while
 * they change, so that a process killed meanwhile leaves none that lies.
 */
static _Atomic (uint64_t) *
words_of (const struct nbd_log *log, uint64_t i)
{
  return &log->words[3 * (i % NBD_LOG_WITNESSES)];
}

static void
remember (struct nbd_log *log, uint64_t i, const struct nbd_record *r)
{
  _Atomic (uint64_t) *w = words_of (log, i);

  atomic_store (&w[1], 0);
  atomic_store (&w[0], r->offset);
  atomic_store (&w[2], r->sum);
  atomic_store (&w[1], r->count);
}

void
nbd_log_recall (struct nbd_log *log, _Atomic (uint64_t) *words,
                uint64_t size, bool flushed)
{
  struct nbd_record r;
  unsigned i;

  log->words = words;
  for (i = 0; i < NBD_LOG_WITNESSES; ++i) {
    r.offset = atomic_load (&words[3 * i]);
    r.count = atomic_load (&words[3 * i + 1]);
    r.sum = atomic_load (&words[3 * i + 2]);
    if (r.count > NBD_RECORD_MAX || r.offset > size ||
        r.count > size - r.offset)
      r.count = 0;
    *nbd_log_record (log, log->next++) = r;
  }
  log->unflushed = flushed ? log->next : log->first;
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
  if (log->words)
    remember (log, log->next - 1, nbd_log_record (log, log->next - 1));
  log->bytes += count;
}

void
nbd_log_forget (struct nbd_log *log, uint64_t offset, uint64_t count)
{
  struct nbd_record *r;
  uint64_t i;

  for (i = log->first; i < log->next; ++i) {
    r = nbd_log_record (log, i);
    if (r->offset >= offset + count || offset >= r->offset + r->count)
      continue;
    r->count = 0;
    if (log->words && log->next - i <= NBD_LOG_WITNESSES)
      remember (log, i, r);
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
