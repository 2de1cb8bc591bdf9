/* SPDX-License-Identifier: BSD-3-Clause */

/* Scope-cleanup attributes, so that functions have one exit path. */

#ifndef CBW_CLEANUP_H
#define CBW_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void
cleanup_free (void *ptr)
{
  free (*(void **) ptr);
}

static inline void
cleanup_close (int *fd)
{
  if (*fd >= 0)
    close (*fd);
}

static inline void
cleanup_unlock (pthread_mutex_t **lock)
{
  if (*lock)
    pthread_mutex_unlock (*lock);
}

static inline pthread_mutex_t *
lock_for_scope (pthread_mutex_t *lock)
{
  if (lock)
    pthread_mutex_lock (lock);
  return lock;
}

#define CLEANUP_FREE __attribute__ ((cleanup (cleanup_free)))
#define CLEANUP_CLOSE __attribute__ ((cleanup (cleanup_close)))

#define CBW_CONCAT_(a, b) a##b
#define CBW_CONCAT(a, b) CBW_CONCAT_ (a, b)

/* Hold the mutex (if not NULL) until the enclosing scope is left. */
#define LOCK_FOR_SCOPE(mutex)                                           \
  __attribute__ ((cleanup (cleanup_unlock), unused))                    \
  pthread_mutex_t *CBW_CONCAT (scope_lock_, __LINE__) =                 \
    lock_for_scope (mutex)

#endif /* CBW_CLEANUP_H */
