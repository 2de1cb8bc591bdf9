/* SPDX-License-Identifier: BSD-3-Clause */

/* The order in which a snapshot's state changes, in the server's memory and in
 * the segment.
 */

#include <config.h>

#include <signal.h>
#include <sys/mman.h>

#include "snapshot/snapshot.h"
#include "unit.h"

static struct snapshot snap;
static enum cbw_snapshot_state at_store; /* in the server's memory */
static unsigned stores;

static void
set_writable (bool writable)
{
  CHECK_EQ (mprotect (snap.entry, CBW_PAGE,
                      writable ? PROT_READ | PROT_WRITE : PROT_READ), 0);
}

/* A store to the entry is about to be made. */
static void
handle_store (int sig)
{
  (void) sig;
  at_store = snapshot_state (&snap);
  stores++;
  set_writable (true);
}

/* The server's other threads let guests' writes pass as soon as they find that
 * a snapshot is broken.  A client that reads those must find it, too.
 */
static void
test_segment_first (void)
{
  static const enum cbw_snapshot_state states[] = {
    CBW_SNAPSHOT_LIVE, CBW_SNAPSHOT_BROKEN, CBW_SNAPSHOT_HIDDEN,
    CBW_SNAPSHOT_EMPTY
  };
  const struct sigaction action = { .sa_handler = handle_store };
  struct sigaction before;
  size_t i;

  snap.entry = mmap (NULL, CBW_PAGE, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK (snap.entry != MAP_FAILED);
  CHECK_EQ (sigaction (SIGSEGV, &action, &before), 0);
  for (i = 1; i < sizeof states / sizeof states[0]; ++i) {
    snapshot_set_state (&snap, states[i - 1]);
    stores = 0;
    set_writable (false);
    snapshot_set_state (&snap, states[i]);
    CHECK_EQ (stores, 1);
    CHECK_EQ (at_store, states[i - 1]);
    CHECK_EQ (snapshot_state (&snap), states[i]);
    CHECK_EQ (atomic_load (&snap.entry->state), states[i]);
  }
  CHECK_EQ (sigaction (SIGSEGV, &before, NULL), 0);
  munmap (snap.entry, CBW_PAGE);
}

int
main (void)
{
  unit_start ();
  RUN (test_segment_first);
  return unit_end ();
}
