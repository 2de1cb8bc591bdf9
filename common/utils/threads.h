/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of our own in a program that is not, and waits that end. */

#ifndef CBW_THREADS_H
#define CBW_THREADS_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "clock.h"

/* Start a thread with all signals blocked: they are the business of the
 * program's own threads.  Returns 0 or an errno, as pthread_create.
 */
extern int thread_start (pthread_t *thread, void *(*run) (void *),
                         void *opaque);

/* A condition variable whose waits end by now_monotonic_ns. */
extern void cond_init (pthread_cond_t *cond);

/* That moment, as such waits take it. */
static inline struct timespec
deadline (uint64_t ns)
{
  return (struct timespec) {
    .tv_sec = (time_t) (ns / NS_PER_SEC), .tv_nsec = (long) (ns % NS_PER_SEC)
  };
}

#endif /* CBW_THREADS_H */
