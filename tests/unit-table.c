/* SPDX-License-Identifier: BSD-3-Clause */

/* The server's record of the snapshot table: names, and results of backups. */

#include <config.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/table.h"
#include "unit.h"
#include "utils/clock.h"

static struct table table;
static struct cbw_snapshot *entries;    /* those in the segment */

static void
start (void)
{
  entries = calloc (CBW_NR_SNAPSHOTS, sizeof *entries);
  CHECK (entries != NULL);
  table_init (&table);
  table_attach (&table, entries);
}

static void
end (void)
{
  table_destroy (&table);
  free (entries);
}

/* Make one of this name, up to the moment when it is live. */
static unsigned
make (const char *name, uint8_t uuid)
{
  struct cbw_snapshot fixed = { .uuid = { uuid } };
  struct error e;
  unsigned i;

  strcpy (fixed.name, name);
  snprintf (fixed.target, sizeof fixed.target, "/%u", uuid);
  CHECK (table_reserve (&table, "segment", &fixed, &i, &e) == TABLE_RESERVED);
  atomic_store (&entries[i].state, CBW_SNAPSHOT_LIVE);
  table_new_id (&table, i);
  return i;
}

static uint64_t
id_of (unsigned i)
{
  return table.entries[i].id;
}

/* A complete backup of this name, which is off the chain. */
static unsigned
make_result (const char *name, uint8_t uuid)
{
  const unsigned i = make (name, uuid);

  table_used (&table, i);
  table_ending (&table, id_of (i), true);
  return i;
}

/* The name of a result is used again: the result is forgotten. */
static void
test_replace (void)
{
  unsigned old, new;

  start ();
  old = make_result ("a", 1);
  table_ended (&table, &entries[old]);
  new = make ("a", 2);
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_LIVE); /* not yet */
  table_used (&table, new);
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_EMPTY);
  CHECK_EQ (table.entries[old].use, TABLE_FREE);
  CHECK_EQ (table.entries[new].use, TABLE_USED);
  end ();
}

/* The same, while the image of the old one is still being closed. */
static void
test_replace_ending (void)
{
  unsigned old, new;

  start ();
  old = make_result ("a", 1);
  new = make ("a", 2);
  table_used (&table, new);
  table_ended (&table, &entries[old]);
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_EMPTY);
  CHECK_EQ (table.entries[old].use, TABLE_FREE);
  end ();
}

/* And when that ends while the new one is being made. */
static void
test_replace_ended (void)
{
  unsigned old, other, new;

  start ();
  old = make_result ("a", 1);
  other = make_result ("b", 2);
  new = make ("a", 3);
  table_ended (&table, &entries[old]);
  table_ended (&table, &entries[other]);
  table_used (&table, new);
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_EMPTY);
  CHECK_EQ (entries[other].state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (table.entries[other].use, TABLE_KEPT);
  end ();
}

/* The new one does not come to be: the result stays. */
static void
test_not_replaced (void)
{
  unsigned old, new;

  start ();
  old = make_result ("a", 1);
  new = make ("a", 2);
  table_free (&table, new);
  table_ended (&table, &entries[old]);
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_LIVE);
  CHECK_EQ (table.entries[old].use, TABLE_KEPT);
  CHECK (table_forget (&table, id_of (old)));
  CHECK_EQ (entries[old].state, CBW_SNAPSHOT_EMPTY);
  end ();
}

static void *
end_after_a_while (void *entry)
{
  unit_give_time ();
  table_ended (&table, entry);
  return NULL;
}

/* A target can be used again when it is closed.  table_wait_target waits for
 * that, but for no other target, and not for ever.
 */
static void
test_wait_target (void)
{
  pthread_t thread;
  unsigned old;

  start ();
  old = make_result ("a", 1);
  make ("b", 2);
  CHECK (pthread_create (&thread, NULL, end_after_a_while,
                         &entries[old]) == 0);
  table_wait_target (&table, "/1", 60 * NS_PER_SEC);
  CHECK_EQ (table.entries[old].use, TABLE_KEPT);
  pthread_join (thread, NULL);
  table_wait_target (&table, "/2", 60 * NS_PER_SEC); /* it is not ending */
  old = make_result ("c", 3);
  table_wait_target (&table, "/3", NS_PER_MS);
  CHECK_EQ (table.entries[old].use, TABLE_ENDING);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_replace);
  RUN (test_replace_ending);
  RUN (test_replace_ended);
  RUN (test_not_replaced);
  RUN (test_wait_target);
  return unit_end ();
}
