/* SPDX-License-Identifier: BSD-3-Clause */

/* The futex system call.  The C library has no wrapper for it. */

#include <config.h>

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "utils/clock.h"
#include "utils/futex.h"

int
futex_wait (const _Atomic (uint32_t) *word, uint32_t expected,
            uint64_t timeout_ns)
{
  const struct timespec ts = {
    .tv_sec = timeout_ns / NS_PER_SEC,
    .tv_nsec = timeout_ns % NS_PER_SEC,
  };

  if (syscall (SYS_futex, word, FUTEX_WAIT, expected, &ts, NULL, 0) == -1 &&
      errno == ETIMEDOUT)
    return -1;
  return 0;
}

bool
futex_wake (_Atomic (uint32_t) *word, int n)
{
  return syscall (SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0) > 0;
}
