/* SPDX-License-Identifier: BSD-3-Clause */

/* The request list: see slots.h for who may do what. */

#include <config.h>

#include <errno.h>
#include <limits.h>

#include "segment/slots.h"
#include "utils/futex.h"

static inline enum slot_state
word_state (uint32_t word)
{
  return word & SLOT_STATE_MASK;
}

static inline uint32_t
word_owner (uint32_t word)
{
  return word >> SLOT_OWNER_SHIFT;
}

static inline uint32_t
make_word (enum slot_state state, uint32_t owner)
{
  return state | owner << SLOT_OWNER_SHIFT;
}

/* The one way a state word changes. */
static bool
transition (struct cbw_slot *slot, uint32_t *from, uint32_t to)
{
  return atomic_compare_exchange_strong (&slot->state, from, to);
}

/* Not everybody who waits may take a slot that is kept for control. */
static void
ring_freed (const struct cbw_map *m, unsigned i)
{
  struct cbw_doorbell *bell = map_doorbell (m);

  atomic_fetch_add (&bell->freed, 1);
  if (atomic_load (&bell->freed_waiters) > 0)
    futex_wake (&bell->freed, slot_is_for_control (i) ? INT_MAX : 1);
}

/* Free a slot that is still in the state *word. */
static bool
free_slot (const struct cbw_map *m, unsigned i, uint32_t *word)
{
  if (!transition (map_slot (m, i), word, SLOT_FREE))
    return false;
  *word = SLOT_FREE;
  ring_freed (m, i);
  return true;
}

int
slot_claim (const struct cbw_map *m, uint32_t owner, bool control)
{
  const unsigned end = control ? CBW_NR_SLOTS : SLOTS_FOR_ALL;
  unsigned n;
  uint32_t word;

  for (n = 0; n < end; ++n) {
    word = SLOT_FREE;
    if (atomic_load_explicit (&map_slot (m, n)->state,
                              memory_order_relaxed) == SLOT_FREE &&
        transition (map_slot (m, n), &word, make_word (SLOT_CLAIMED, owner)))
      return (int) n;
  }
  return -1;
}

void
slot_wait_free (const struct cbw_map *m, uint32_t seen, uint64_t timeout_ns)
{
  struct cbw_doorbell *bell = map_doorbell (m);

  atomic_fetch_add (&bell->freed_waiters, 1);
  futex_wait (&bell->freed, seen, timeout_ns);
  atomic_fetch_sub (&bell->freed_waiters, 1);
}

void
slot_submit (const struct cbw_map *m, unsigned i, uint32_t owner)
{
  uint32_t word = make_word (SLOT_CLAIMED, owner);

  if (transition (map_slot (m, i), &word, make_word (SLOT_SUBMITTED, owner)))
    atomic_fetch_or (&map_doorbell (m)->pending, UINT64_C (1) << i);
}

void
slots_ring (const struct cbw_map *m)
{
  struct cbw_doorbell *bell = map_doorbell (m);
  uint32_t rings, seen = atomic_fetch_add (&bell->submitted, 1) + 1;

  while (atomic_load (&map_header (m)->idle_threads) > 0 &&
         atomic_exchange (&bell->waking, 1) == 0 &&
         !futex_wake (&bell->submitted, 1)) {
    /* The idle threads do not sleep yet, or no more, or are dead.  But a
     * thread that rang meanwhile has counted on us.
     */
    atomic_store (&bell->waking, 0);
    rings = atomic_load (&bell->submitted);
    if (rings == seen)
      break;
    seen = rings;
  }
}

enum slot_wait
slot_wait (const struct cbw_map *m, unsigned i, uint32_t owner,
           uint64_t timeout_ns)
{
  struct cbw_slot *slot = map_slot (m, i);
  uint32_t word;

  for (;;) {
    word = atomic_load_explicit (&slot->state, memory_order_acquire);
    /* The caller has submitted the slot.  So in CLAIMED it belongs to another
     * thread of the client, which expects to find its word unchanged.
     */
    if (word_owner (word) != owner || word_state (word) == SLOT_FREE ||
        word_state (word) == SLOT_CLAIMED)
      return SLOT_WAIT_LOST;
    if (word_state (word) == SLOT_DONE)
      return SLOT_WAIT_DONE;
    if (!(word & SLOT_WAITED)) {
      if (!transition (slot, &word, word | SLOT_WAITED))
        continue;
      word |= SLOT_WAITED;
    }
    if (futex_wait (&slot->state, word, timeout_ns) == -1)
      return SLOT_WAIT_TIMEOUT;
  }
}

bool
slot_finish (const struct cbw_map *m, unsigned i, uint32_t owner)
{
  uint32_t word = make_word (SLOT_DONE, owner);

  return free_slot (m, i, &word);
}

void
slot_abandon (const struct cbw_map *m, unsigned i, uint32_t owner)
{
  struct cbw_slot *slot = map_slot (m, i);
  uint32_t word = atomic_load (&slot->state);

  while (word_owner (word) == owner)
    switch (word_state (word)) {
    case SLOT_SUBMITTED:
    case SLOT_RUNNING:          /* the filter frees it */
      if (transition (slot, &word,
                      make_word (word_state (word), SLOT_OWNER_NONE)))
        return;
      break;
    default:
      if (free_slot (m, i, &word))
        return;
    }
}

int
slot_take (const struct cbw_map *m, unsigned *cursor)
{
  struct cbw_doorbell *bell = map_doorbell (m);
  uint64_t pending, ahead, bit;
  uint32_t word;
  unsigned i;

  while ((pending = atomic_load (&bell->pending)) != 0) {
    ahead = pending >> *cursor << *cursor;
    i = (unsigned) __builtin_ctzll (ahead ? ahead : pending);
    bit = UINT64_C (1) << i;
    if (!(atomic_fetch_and (&bell->pending, ~bit) & bit))
      continue;                 /* another thread was faster */
    *cursor = (i + 1) % CBW_NR_SLOTS;

    word = atomic_load_explicit (&map_slot (m, i)->state,
                                 memory_order_relaxed);
    while (word_state (word) == SLOT_SUBMITTED)
      if (word_owner (word) == SLOT_OWNER_NONE)
        free_slot (m, i, &word);
      else if (transition (map_slot (m, i), &word, word ^ SLOT_SUBMITTED ^
                           SLOT_RUNNING)) {
        if (atomic_load (&bell->pending) != 0)
          slots_ring (m);
        return (int) i;
      }
  }
  return -1;
}

void
slots_wait_submitted (const struct cbw_map *m, uint64_t timeout_ns)
{
  struct cbw_doorbell *bell = map_doorbell (m);
  _Atomic (uint32_t) *idle = &map_header (m)->idle_threads;
  uint32_t seen = atomic_load (&bell->submitted);

  atomic_fetch_add (idle, 1);
  if (atomic_load (&bell->pending) == 0)
    futex_wait (&bell->submitted, seen, timeout_ns);
  atomic_fetch_sub (idle, 1);
  atomic_store (&bell->waking, 0); /* we look now */
}

uint32_t
slot_get_owner (const struct cbw_map *m, unsigned i)
{
  return word_owner (atomic_load (&map_slot (m, i)->state));
}

unsigned
slots_held (const struct cbw_map *m, uint32_t owner)
{
  unsigned i, n = 0;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    n += word_owner (atomic_load_explicit (&map_slot (m, i)->state,
                                           memory_order_relaxed)) == owner;
  return n;
}

/* Are fewer than "few" of the slots [start, end) free? */
static bool
are_scarce (const struct cbw_map *m, unsigned start, unsigned end,
            unsigned few)
{
  unsigned i, n = 0;

  for (i = start; i < end && n < few; ++i)
    n += atomic_load_explicit (&map_slot (m, i)->state,
                               memory_order_relaxed) == SLOT_FREE;
  return n < few;
}

bool
slots_are_scarce (const struct cbw_map *m)
{
  return are_scarce (m, 0, SLOTS_FOR_ALL, SLOTS_FEW);
}

void
slots_nudge (const struct cbw_map *m)
{
  struct cbw_doorbell *bell = map_doorbell (m);

  if (atomic_load (&bell->pending) != 0 &&
      atomic_load (&map_header (m)->idle_threads) > 0) {
    atomic_store (&bell->waking, 0);
    futex_wake (&bell->submitted, 1);
  }
}

void
slot_complete (const struct cbw_map *m, unsigned i)
{
  struct cbw_slot *slot = map_slot (m, i);
  uint32_t word = atomic_load_explicit (&slot->state, memory_order_relaxed);

  while (word_state (word) == SLOT_RUNNING)
    if (word_owner (word) == SLOT_OWNER_NONE)
      free_slot (m, i, &word);
    else if (transition (slot, &word,
                         make_word (SLOT_DONE, word_owner (word)))) {
      if (word & SLOT_WAITED)
        futex_wake (&slot->state, INT_MAX);
      return;
    }
}

unsigned
slots_reap (const struct cbw_map *m,
            bool (*alive) (void *opaque, unsigned client), void *opaque)
{
  unsigned i, reaped = 0;
  uint32_t word;

  for (i = 0; i < CBW_NR_SLOTS; ++i) {
    word = atomic_load (&map_slot (m, i)->state);
    if (word_state (word) == SLOT_FREE || word_state (word) == SLOT_RUNNING)
      continue;
    if (word_owner (word) != SLOT_OWNER_NONE &&
        slot_owner_is_current (m, word_owner (word)) &&
        alive (opaque, slot_owner_client (word_owner (word))))
      continue;
    if (free_slot (m, i, &word))
      reaped++;
  }
  return reaped;
}

unsigned
slots_take_back (const struct cbw_map *m, struct slots_seen *seen,
                 uint64_t now)
{
  const bool few[2] = {
    slots_are_scarce (m),
    are_scarce (m, SLOTS_FOR_ALL, CBW_NR_SLOTS, SLOTS_FEW_FOR_CONTROL)
  };
  unsigned i, n = 0;
  uint32_t word;

  for (i = 0; i < CBW_NR_SLOTS; ++i) {
    word = atomic_load (&map_slot (m, i)->state);
    if (word != seen->word[i]) {
      seen->word[i] = word;
      seen->since[i] = now;
    }
    else if (word_state (word) == SLOT_DONE && few[slot_is_for_control (i)] &&
             now - seen->since[i] >= SLOT_PATIENCE &&
             free_slot (m, i, &word)) {
      seen->word[i] = word;
      n++;
    }
  }
  return n;
}

/* Clients are at work all the while. */
static void
recover_slot (const struct cbw_map *m, unsigned i)
{
  uint32_t word = atomic_load (&map_slot (m, i)->state);

  for (;;)
    switch (word_state (word)) {
    case SLOT_RUNNING:
      transition (map_slot (m, i), &word,
                  word ^ SLOT_RUNNING ^ SLOT_SUBMITTED);
      word = atomic_load (&map_slot (m, i)->state);
      break;
    case SLOT_SUBMITTED:
      atomic_fetch_or (&map_doorbell (m)->pending, UINT64_C (1) << i);
      return;
    case SLOT_FREE:
      if (word == SLOT_FREE)
        return;
      /* fallthrough */
    default:                    /* nonsense */
      free_slot (m, i, &word);
      break;
    case SLOT_CLAIMED:
    case SLOT_DONE:
      return;
    }
}

void
slots_recover (const struct cbw_map *m)
{
  unsigned i;

  atomic_store (&map_header (m)->idle_threads, 0);
  atomic_store (&map_doorbell (m)->waking, 0);
  for (i = 0; i < CBW_NR_SLOTS; ++i)
    recover_slot (m, i);
}

void
slots_forget (const struct cbw_map *m)
{
  unsigned i;

  atomic_store (&map_doorbell (m)->pending, 0);
  for (i = 0; i < CBW_NR_SLOTS; ++i)
    atomic_store (&map_slot (m, i)->state, SLOT_FREE);
}

void
slots_wake_all (const struct cbw_map *m)
{
  unsigned i;

  for (i = 0; i < CBW_NR_SLOTS; ++i)
    futex_wake (&map_slot (m, i)->state, INT_MAX);
  futex_wake (&map_doorbell (m)->freed, INT_MAX);
}
