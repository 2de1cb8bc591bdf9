/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <nbdkit-filter.h>

#include "below/patience.h"
#include "utils/clock.h"

/* In seconds: nbdkit -D cbw.stuck_wait=SECS. */
NBDKIT_DLL_PUBLIC int cbw_debug_stuck_wait = 25;

bool
patience_sleep (uint64_t ns)
{
  return nbdkit_nanosleep ((unsigned) (ns / NS_PER_SEC),
                           (unsigned) (ns % NS_PER_SEC)) == 0;
}

uint64_t
patience_at_stop_ns (void)
{
  return (uint64_t) cbw_debug_stuck_wait * NS_PER_SEC;
}
