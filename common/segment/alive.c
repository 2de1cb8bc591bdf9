/* SPDX-License-Identifier: BSD-3-Clause */

/* The thread by which clients can tell that the server is alive.  The server
 * starts it when it serves the segment.  See alive.h.
 */

#include <config.h>

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "segment/alive.h"
#include "segment/layout-header.h"
#include "utils/cleanup.h"

/* A list of one futex for the kernel, which finds the word by the entry's
 * address and an offset.  So no pointer of it is where clients can write.  It
 * is in memory that is shared, though with nobody: what is private may be
 * taken from a process that is being killed for want of memory, before its
 * threads have ended.
 */
struct alive_robust {
  struct robust_list_head head;
  struct robust_list entry;
  _Atomic (uint32_t) probe;     /* a word to try it with */
};

static_assert (CBW_ALIVE_DIED == FUTEX_OWNER_DIED, "CBW_ALIVE_DIED");

void
alive_init (struct alive *a, _Atomic (uint32_t) *word)
{
  *a = (struct alive) { .word = word };
  pthread_mutex_init (&a->lock, NULL);
  cond_init (&a->changed);
}

/* From now on the calling thread owns the word, and the kernel knows.  The C
 * library has told it of a list of its own, which has nothing in it in our
 * threads: *before, to be put back.  0, or an errno.
 */
static int
own_word (struct alive_robust *r, _Atomic (uint32_t) *word,
          struct robust_list_head **before)
{
  size_t len;

  r->entry.next = &r->head.list;
  r->head = (struct robust_list_head) {
    .list.next = &r->entry,
    .futex_offset = (long) ((uintptr_t) word - (uintptr_t) &r->entry),
  };
  if (syscall (SYS_get_robust_list, 0, before, &len) == -1 ||
      syscall (SYS_set_robust_list, &r->head, sizeof r->head) == -1) /* A2 */
    return errno;
  atomic_store (word, (uint32_t) syscall (SYS_gettid));             /* A3 */
  return 0;
}

static void *
probe_thread (void *opaque)
{
  struct alive_robust *r = opaque;
  struct robust_list_head *before;

  own_word (r, &r->probe, &before);
  return NULL;
}

/* Does the kernel keep its word?  A thread tries it, and ends.  0, or an
 * errno.
 */
static int
probe (struct alive_robust *r)
{
  pthread_t thread;
  int e;

  atomic_store (&r->probe, 0);
  e = thread_start (&thread, probe_thread, r);
  if (e != 0)
    return e;
  pthread_join (thread, NULL);
  return atomic_load (&r->probe) == CBW_ALIVE_DIED ? 0 : ENOSYS;
}

static void
alive_thread (void *opaque)
{
  struct alive *a = opaque;
  struct robust_list_head *before;

  LOCK_FOR_SCOPE (&a->lock);
  a->err = own_word (a->robust, a->word, &before);
  a->begun = true;
  pthread_cond_signal (&a->changed);
  if (a->err != 0)
    return;
  while (!a->stop)              /* A5: the thread dies here */
    pthread_cond_wait (&a->changed, &a->lock);
  syscall (SYS_set_robust_list, before, sizeof *before);
}

int
alive_start (struct alive *a)
{
  struct alive_robust *r = mmap (NULL, sizeof *r, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int e;

  if (r == MAP_FAILED)
    return errno;
  a->robust = r;
  thread_group_init (&a->thread, alive_thread, a);
  e = probe (r);
  if (e == 0)
    e = thread_group_start (&a->thread, 1);
  if (e != 0)
    return e;
  LOCK_FOR_SCOPE (&a->lock);
  while (!a->begun)
    pthread_cond_wait (&a->changed, &a->lock);
  return a->err;
}

void
alive_stop (struct alive *a)
{
  LOCK_FOR_SCOPE (&a->lock);
  a->stop = true;
  atomic_store (a->word, 0);                                        /* A4 */
  pthread_cond_signal (&a->changed);
}

bool
alive_join (struct alive *a, uint64_t until)
{
  return a->robust == NULL || thread_group_join (&a->thread, until);
}

void
alive_free (struct alive *a)
{
  if (a->robust) {
    thread_group_free (&a->thread);
    munmap (a->robust, sizeof *a->robust);
  }
  pthread_cond_destroy (&a->changed);
  pthread_mutex_destroy (&a->lock);
}
