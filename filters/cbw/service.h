/* SPDX-License-Identifier: BSD-3-Clause */

/* The service threads: they run the requests that clients put into the
 * slots of the segment, and reap what dead clients left there.
 *
 * Nothing in a slot is trusted.  Its request is copied out once, then
 * checked; the reply goes only into the slot and its buffer.
 */

#ifndef CBW_SERVICE_H
#define CBW_SERVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "segment.h"
#include "source.h"
#include "threads.h"
#include "turns.h"

struct service {
  struct engine *engine;
  struct segment *segment;
  struct source source;
  struct source_info info;

  _Atomic (bool) stop;
  _Atomic (uint64_t) next_reap; /* monotonic ns */
  _Atomic (bool) reaping;       /* one does */
  struct turns turns;
  struct thread_group threads;
};

/* Start nr_threads threads, no more than THREAD_GROUP_MAX; engine, segment,
 * source and info are set.  0, or -1 after nbdkit_error.
 */
extern int service_start (struct service *s, unsigned nr_threads);

/* Stop and join them.  Requests that run are finished first. */
extern void service_stop (struct service *s);

#endif /* CBW_SERVICE_H */
