/* SPDX-License-Identifier: BSD-3-Clause */

/* Whose turn it is among large reads: see turns.h. */

#include <config.h>

#include <errno.h>

#include "service/turns.h"
#include "utils/cleanup.h"
#include "utils/threads.h"

/* Reads of at least so many bytes. */
#define LARGE (64 * 1024)

/* How long after a write guests are taken to be writing, at most. */
#define LOOK_INTERVAL (4 * NS_PER_MS)

/* How long a read waits for its turn, before the read that has the turn loses
 * it; and how long for what comes after a turn.
 */
#define PATIENCE (20 * NS_PER_MS)
#define PAUSE_NS 60000

void
turns_init (struct turns *t, struct gate *gate)
{
  t->gate = gate;
  atomic_init (&t->next_look, 0);
  atomic_init (&t->entered, 0);
  atomic_init (&t->guests, false);
  pthread_mutex_init (&t->lock, NULL);
  cond_init (&t->ended);
  t->turn = t->turns = 0;
}

void
turns_destroy (struct turns *t)
{
  pthread_cond_destroy (&t->ended);
  pthread_mutex_destroy (&t->lock);
}

static bool
guests_write (struct turns *t)
{
  const uint64_t now = now_monotonic_ns ();
  uint64_t due = atomic_load (&t->next_look);
  uint32_t entered;

  if (now >= due &&
      atomic_compare_exchange_strong (&t->next_look, &due,
                                      now + LOOK_INTERVAL)) {
    entered = gate_entered (t->gate);
    atomic_store (&t->guests, atomic_exchange (&t->entered, entered) !=
                  entered);
  }
  return atomic_load (&t->guests);
}

uint64_t
turns_begin (struct turns *t, uint64_t length)
{
  struct timespec until;

  if (length < LARGE || !guests_write (t))
    return 0;
  until = cond_until (now_monotonic_ns () + PATIENCE);
  LOCK_FOR_SCOPE (&t->lock);
  while (t->turn != 0)
    if (pthread_cond_timedwait (&t->ended, &t->lock, &until) == ETIMEDOUT)
      break;                    /* it hangs: nobody waits for it again */
  return t->turn = ++t->turns;
}

void
turns_end (struct turns *t, uint64_t turn)
{
  const struct timespec pause = { .tv_nsec = PAUSE_NS };

  if (turn == 0)
    return;
  nanosleep (&pause, NULL);
  LOCK_FOR_SCOPE (&t->lock);
  if (t->turn == turn) {
    t->turn = 0;
    pthread_cond_signal (&t->ended);
  }
}
