/* SPDX-License-Identifier: BSD-3-Clause */

/* The word "alive" of the header: is the server alive?  A client can tell
 * without a system call.
 *
 * A thread of the server's does nothing but live.  It tells the kernel that
 * the word is a robust futex which it owns.  However the process ends, the
 * kernel then sets CBW_ALIVE_DIED in the word before it closes any file of the
 * process, so before the server's lock is free.  docs/correctness.md has the
 * argument (section 25).
 *
 *   word:  0 --start--> thread's id --stop--> 0
 *                             |
 *                             `--death--> CBW_ALIVE_DIED
 *
 * Where there is no such thread the word is 0, and clients ask the server.
 */

#ifndef CBW_ALIVE_H
#define CBW_ALIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "utils/threads.h"

struct alive_robust;

struct alive {
  _Atomic (uint32_t) *word;     /* in the segment */
  struct alive_robust *robust;  /* what the kernel looks at; NULL: not yet */
  struct thread_group thread;   /* one */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t changed;
  bool begun;                   /* the thread has told the kernel, or failed */
  bool stop;
  int err;                      /* why it has failed, or 0 */
};

extern void alive_init (struct alive *a, _Atomic (uint32_t) *word);

/* Say that the server is alive.  The generation of the chain was raised before
 * that (E5).  Returns 0, or an errno and the word stays 0: ENOSYS if the
 * kernel does not do it.
 */
extern int alive_start (struct alive *a);

/* As in threads.h.  The word is 0 when alive_stop returns, and the thread waits
 * for nothing: so alive_join is true in a moment.
 */
extern void alive_stop (struct alive *a);
extern bool alive_join (struct alive *a, uint64_t until);
extern void alive_free (struct alive *a);

#endif /* CBW_ALIVE_H */
