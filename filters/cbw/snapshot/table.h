/* SPDX-License-Identifier: BSD-3-Clause */

/* Which entries of the segment's snapshot table are in use, by whom: the
 * server's own record, which it acts on.  (The segment's table says it to
 * others, who may have changed it.)
 *
 *   FREE --> MAKING --> USED --> ENDING --------> FREE
 *              |                    |   dropped
 *              |                    |
 *              `--> FREE            `-----------> KEPT --> FREE
 *                                       complete  forgotten
 *
 * A complete backup is no snapshot any more, and keeps nothing open.  Its
 * entry is KEPT until somebody has fetched the result and drops it, or until
 * its place or its name is needed.
 *
 * The lock is a leaf.
 */

#ifndef CBW_TABLE_H
#define CBW_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"
#include "utils/error.h"

enum table_use {
  TABLE_FREE,
  TABLE_MAKING,                 /* reserved; its target is being made */
  TABLE_USED,                   /* a snapshot, live, broken or hidden */
  TABLE_ENDING,                 /* off the chain; its target is being closed */
  TABLE_KEPT,                   /* a complete backup's result */
};

struct table_entry {
  enum table_use use;
  bool hidden;                  /* its name is free for another */
  bool keep;                    /* a complete backup: KEPT when it has ended */
  uint64_t id;                  /* once it is live */
  uint8_t uuid[16];
  uint32_t target_kind;
  bool backup;
  char name[CBW_NAME_MAX];
  char target[CBW_TARGET_MAX];
};

struct table {
  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t ended;
  struct table_entry entries[CBW_NR_SNAPSHOTS];
  uint64_t next_id;             /* of snapshots; never used twice */
  struct cbw_snapshot *segment; /* the entries there */
};

extern void table_init (struct table *t);
extern void table_destroy (struct table *t);

/* The table in the segment, before anything else is called. */
extern void table_attach (struct table *t, struct cbw_snapshot *segment);

/* An earlier server's entry is in use: its fixed part, and its state. */
extern void table_adopt (struct table *t, unsigned i,
                         const struct cbw_snapshot *fixed,
                         enum table_use use, bool hidden);

enum table_reserved { TABLE_RESERVED, TABLE_EXISTS, TABLE_ERROR };

/* Reserve an entry for what "fixed" describes (uuid, name, target): *index.
 * TABLE_EXISTS: it has been made before.  TABLE_ERROR with the error set:
 * EEXIST (the name is taken), EBUSY (the NBD server is another's target),
 * ENOSPC (the table is full).  "path" is of the segment, for messages.
 */
extern enum table_reserved table_reserve (struct table *t, const char *path,
                                          const struct cbw_snapshot *fixed,
                                          unsigned *index, struct error *e);

/* The snapshot of entry i is about to go live: its id, from now on. */
extern uint64_t table_new_id (struct table *t, unsigned i);

/* The id of something that is no snapshot, but in the order of their ids. */
extern uint64_t table_next_id (struct table *t);

/* Is there a snapshot of that name, or one being made? */
extern bool table_has_name (struct table *t, const char *name);

/* It is live.  A result with its name, or in its place, is forgotten. */
extern void table_used (struct table *t, unsigned i);

/* Entry i is free after all; its state in the segment is EMPTY. */
extern void table_free (struct table *t, unsigned i);

/* Snapshot "id" was dropped; it stays in use while others look through it. */
extern void table_hide (struct table *t, uint64_t id);

/* Snapshot "id" is off the chain; "keep": its result is still wanted. */
extern void table_ending (struct table *t, uint64_t id, bool keep);

/* The snapshot with this entry has ended. */
extern void table_ended (struct table *t, const struct cbw_snapshot *entry);

/* Somebody has seen the result of the complete backup "id": it is not to be
 * kept.  Is it?
 */
extern void table_do_not_keep (struct table *t, uint64_t id);
extern bool table_keeps (struct table *t, uint64_t id);

/* Is there the result of a complete backup "id"?  Copies its name. */
extern bool table_result (struct table *t, uint64_t id,
                          char name[CBW_NAME_MAX]);

/* Forget the kept result "id".  False if there is none. */
extern bool table_forget (struct table *t, uint64_t id);

/* Has there been a snapshot with this id? */
extern bool table_had (struct table *t, uint64_t id);

/* Wait until no snapshot that is off the chain has this target any more, but
 * no longer than timeout_ns: then another can be made there.
 */
extern void table_wait_target (struct table *t, const char *target,
                               uint64_t timeout_ns);

/* Wait until snapshot "id", which is off the chain, has ended, but no longer
 * than timeout_ns.  Returns whether that is so.
 */
extern bool table_wait_ended (struct table *t, uint64_t id,
                              uint64_t timeout_ns);

#endif /* CBW_TABLE_H */
