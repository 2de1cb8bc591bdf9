/* SPDX-License-Identifier: BSD-3-Clause */

/* Times are 64-bit nanoseconds everywhere. */

#ifndef CBW_CLOCK_H
#define CBW_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SEC UINT64_C (1000000000)
#define NS_PER_MS UINT64_C (1000000)

static inline uint64_t
clock_ns (clockid_t id)
{
  struct timespec ts;

  clock_gettime (id, &ts);
  return (uint64_t) ts.tv_sec * NS_PER_SEC + (uint64_t) ts.tv_nsec;
}

/* Time of day, since the epoch. */
static inline uint64_t
now_realtime_ns (void)
{
  return clock_ns (CLOCK_REALTIME);
}

/* For intervals. */
static inline uint64_t
now_monotonic_ns (void)
{
  return clock_ns (CLOCK_MONOTONIC);
}

/* Milliseconds from now to that moment of now_monotonic_ns, rounded up, for
 * poll; 0 if it has passed.
 */
static inline int
clock_ms_until (uint64_t ns)
{
  const uint64_t now = now_monotonic_ns ();

  return now < ns ? (int) ((ns - now) / NS_PER_MS) + 1 : 0;
}

#endif /* CBW_CLOCK_H */
