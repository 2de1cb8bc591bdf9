/* SPDX-License-Identifier: BSD-3-Clause */

/* What needs no server: the log of what one has acknowledged, and names. */

#include <config.h>

#include "image/nbd/nbd-keeper.h"
#include "image/nbd/nbd.h"
#include "unit.h"

static void
test_names (void)
{
  CHECK (image_nbd_is_name ("nbd://localhost"));
  CHECK (image_nbd_is_name ("nbds+unix:///x?socket=y"));
  CHECK (image_nbd_is_name ("[ qemu-nbd x ]"));
  CHECK (!image_nbd_is_name ("/nbd://x"));
  CHECK (!image_nbd_is_name ("nbd"));
  CHECK (!image_nbd_is_name (""));
}

static void
test_log (void)
{
  struct nbd_log log;
  uint64_t i;

  CHECK (nbd_log_init (&log) == 0);
  for (i = 0; i < NBD_LOG_MAX; ++i)
    nbd_log_add (&log, i, 1, i);
  CHECK (!log.overflow);
  nbd_log_flushed (&log, 10);
  CHECK_EQ (log.first, 10 - NBD_LOG_WITNESSES);
  CHECK_EQ (log.unflushed, 10);
  CHECK_EQ (log.bytes, NBD_LOG_MAX - 10);
  for (i = 0; i < 12; ++i)
    nbd_log_add (&log, i, 1, i);
  CHECK (log.overflow);
  CHECK_EQ (log.unflushed, 12);
  nbd_log_flushed (&log, 11);   /* that one was too late */
  CHECK (log.overflow);
  nbd_log_flushed (&log, log.next);
  CHECK (!log.overflow);
  CHECK_EQ (log.next - log.first, NBD_LOG_WITNESSES);
  nbd_log_destroy (&log);
}

static void
test_sum (void)
{
  static unsigned char buf[100000];
  uint64_t sum;
  size_t i;

  CHECK_EQ (nbd_log_sum (buf, 7), NBD_LOG_SUM_ZERO);
  CHECK_EQ (nbd_log_sum (buf, sizeof buf), NBD_LOG_SUM_ZERO);
  for (i = 0; i < sizeof buf; ++i)
    buf[i] = (unsigned char) (i * 7 + i / 256);
  sum = nbd_log_sum (buf, sizeof buf);
  for (i = 0; i < sizeof buf; i += 37) {
    buf[i] ^= 1;
    CHECK (nbd_log_sum (buf, sizeof buf) != sum);
    buf[i] ^= 1;
  }
  CHECK (nbd_log_sum (buf, sizeof buf - 1) != sum);
}

int
main (void)
{
  unit_start ();
  RUN (test_names);
  RUN (test_log);
  RUN (test_sum);
  return unit_end ();
}
