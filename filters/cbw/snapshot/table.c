/* SPDX-License-Identifier: BSD-3-Clause */

/* The server's own record of the snapshot table. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "snapshot/table.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/threads.h"

void
table_init (struct table *t)
{
  memset (t, 0, sizeof *t);
  pthread_mutex_init (&t->lock, NULL);
  cond_init (&t->ended);
  t->next_id = 1;
}

void
table_destroy (struct table *t)
{
  pthread_cond_destroy (&t->ended);
  pthread_mutex_destroy (&t->lock);
}

void
table_attach (struct table *t, struct cbw_snapshot *segment)
{
  t->segment = segment;
}

static void
describe (struct table_entry *entry, const struct cbw_snapshot *fixed)
{
  entry->id = fixed->id;
  entry->target_kind = fixed->target_kind;
  entry->backup = fixed->options.backup;
  memcpy (entry->uuid, fixed->uuid, sizeof entry->uuid);
  memcpy (entry->name, fixed->name, sizeof entry->name);
  memcpy (entry->target, fixed->target, sizeof entry->target);
}

/* The lock is held. */
static void
set_free (struct table *t, struct table_entry *entry)
{
  *entry = (struct table_entry) { .use = TABLE_FREE };
  pthread_cond_broadcast (&t->ended);
}

/* A result that nobody has asked for is in the way.  The lock is held. */
static void
forget_entry (struct table *t, struct table_entry *entry)
{
  atomic_store (&t->segment[entry - t->entries].state, CBW_SNAPSHOT_EMPTY);
  set_free (t, entry);
}

/* Is it the result of a complete backup, now or when it has ended? */
static bool
is_result (const struct table_entry *entry)
{
  return entry->use == TABLE_KEPT ||
    (entry->use == TABLE_ENDING && entry->keep);
}

/* Nobody wants the result any more.  The lock is held. */
static void
give_up_result (struct table *t, struct table_entry *entry)
{
  entry->keep = false;
  if (entry->use == TABLE_KEPT)
    forget_entry (t, entry);
}

static struct table_entry *
find (struct table *t, uint64_t id)
{
  struct table_entry *entry;

  for (entry = t->entries; entry < t->entries + CBW_NR_SNAPSHOTS; ++entry)
    if (entry->use != TABLE_FREE && id != 0 && entry->id == id)
      return entry;
  return NULL;
}

void
table_adopt (struct table *t, unsigned i, const struct cbw_snapshot *fixed,
             enum table_use use, bool hidden)
{
  LOCK_FOR_SCOPE (&t->lock);
  t->entries[i] = (struct table_entry) {
    .use = use, .hidden = hidden, .keep = true
  };
  describe (&t->entries[i], fixed);
  if (t->next_id <= fixed->id)
    t->next_id = fixed->id + 1;
}

/* May the new one be beside this entry, which is in use?  The lock is held. */
static enum table_reserved
check_beside (const char *path, const struct table_entry *entry,
              const struct cbw_snapshot *fixed, struct error *e)
{
  const bool own = memcmp (entry->uuid, fixed->uuid, sizeof fixed->uuid) == 0;
  const bool gone = entry->hidden || entry->use == TABLE_ENDING;

  if (own && entry->use == TABLE_MAKING) {
    error_set (e, EALREADY, "%s: snapshot \"%s\" is being made", path,
               fixed->name);
    return TABLE_ERROR;
  }
  if (own && (!gone || (entry->use == TABLE_ENDING && entry->keep)))
    return TABLE_EXISTS;
  /* Files are told apart, and moved aside; of a server's export nothing
   * is known but its name.
   */
  if (entry->target_kind == CBW_TARGET_NBD && entry->use != TABLE_KEPT &&
      strcmp (entry->target, fixed->target) == 0) {
    error_set (e, EBUSY, "%s: is the target of %ssnapshot \"%s\"; choose "
               "another", fixed->target, gone ? "the dropped " : "",
               entry->name);
    return TABLE_ERROR;
  }
  if (gone || strcmp (entry->name, fixed->name) != 0)
    return TABLE_RESERVED;
  if (entry->use == TABLE_KEPT)
    return TABLE_RESERVED;      /* forgotten when the new one is live */
  if (entry->backup && fixed->options.backup)
    error_set (e, EEXIST, "%s: backup \"%s\" is under way already, or has failed "
               "and was not dropped: cbwctl backup %s %s waits for it", path,
               fixed->name, path, fixed->name);
  else
    error_set (e, EEXIST, "%s: there is a snapshot \"%s\" already; drop it, or "
               "choose another name", path, fixed->name);
  return TABLE_ERROR;
}

/* A free entry, or the oldest result that nobody has asked for.  The lock is
 * held.
 */
static struct table_entry *
find_room (struct table *t)
{
  struct table_entry *entry, *kept = NULL;

  for (entry = t->entries; entry < t->entries + CBW_NR_SNAPSHOTS; ++entry) {
    if (entry->use == TABLE_FREE)
      return entry;
    if (entry->use == TABLE_KEPT && (kept == NULL || entry->id < kept->id))
      kept = entry;
  }
  if (kept)
    forget_entry (t, kept);
  return kept;
}

enum table_reserved
table_reserve (struct table *t, const char *path,
               const struct cbw_snapshot *fixed, unsigned *index,
               struct error *e)
{
  struct table_entry *entry;
  enum table_reserved r;

  LOCK_FOR_SCOPE (&t->lock);
  for (entry = t->entries; entry < t->entries + CBW_NR_SNAPSHOTS; ++entry) {
    if (entry->use == TABLE_FREE)
      continue;
    r = check_beside (path, entry, fixed, e);
    if (r != TABLE_RESERVED)
      return r;
  }
  entry = find_room (t);
  if (entry == NULL) {
    error_set (e, ENOSPC, "%s: the table of %d snapshots is full; drop one "
               "first (hidden ones count until the older ones are dropped)",
               path, CBW_NR_SNAPSHOTS);
    return TABLE_ERROR;
  }
  entry->use = TABLE_MAKING;
  entry->keep = true;
  describe (entry, fixed);
  *index = (unsigned) (entry - t->entries);
  return TABLE_RESERVED;
}

uint64_t
table_new_id (struct table *t, unsigned i)
{
  LOCK_FOR_SCOPE (&t->lock);
  return t->entries[i].id = t->next_id++;
}

uint64_t
table_next_id (struct table *t)
{
  LOCK_FOR_SCOPE (&t->lock);
  return t->next_id++;
}

bool
table_has_name (struct table *t, const char *name)
{
  const struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  for (entry = t->entries; entry < t->entries + CBW_NR_SNAPSHOTS; ++entry)
    if ((entry->use == TABLE_MAKING || entry->use == TABLE_USED) &&
        !entry->hidden && strcmp (entry->name, name) == 0)
      return true;
  return false;
}

void
table_used (struct table *t, unsigned i)
{
  struct table_entry *entry = &t->entries[i], *old;

  LOCK_FOR_SCOPE (&t->lock);
  entry->use = TABLE_USED;
  /* A result of its name is older: two of one name are not made at once. */
  for (old = t->entries; old < t->entries + CBW_NR_SNAPSHOTS; ++old)
    if (is_result (old) && strcmp (old->name, entry->name) == 0)
      give_up_result (t, old);
}

void
table_free (struct table *t, unsigned i)
{
  LOCK_FOR_SCOPE (&t->lock);
  set_free (t, &t->entries[i]);
}

void
table_hide (struct table *t, uint64_t id)
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find (t, id);
  if (entry)
    entry->hidden = true;
}

void
table_ending (struct table *t, uint64_t id, bool keep)
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find (t, id);
  if (entry) {
    entry->use = TABLE_ENDING;
    entry->keep = keep;
  }
}

void
table_ended (struct table *t, const struct cbw_snapshot *entry)
{
  struct table_entry *p = &t->entries[entry - t->segment];

  LOCK_FOR_SCOPE (&t->lock);
  if (p->use != TABLE_ENDING)
    return;
  p->use = TABLE_KEPT;
  if (!p->keep)
    forget_entry (t, p);
  pthread_cond_broadcast (&t->ended);
}

void
table_do_not_keep (struct table *t, uint64_t id)
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find (t, id);
  if (entry)
    entry->keep = false;
}

bool
table_keeps (struct table *t, uint64_t id)
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find (t, id);
  return entry && entry->keep;
}

/* A complete backup's, off the chain, that is wanted.  The lock is held. */
static struct table_entry *
find_result (struct table *t, uint64_t id)
{
  struct table_entry *entry = find (t, id);

  return entry && is_result (entry) ? entry : NULL;
}

bool
table_result (struct table *t, uint64_t id, char name[CBW_NAME_MAX])
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find_result (t, id);
  if (entry)
    memcpy (name, entry->name, CBW_NAME_MAX);
  return entry != NULL;
}

bool
table_forget (struct table *t, uint64_t id)
{
  struct table_entry *entry;

  LOCK_FOR_SCOPE (&t->lock);
  entry = find_result (t, id);
  if (entry)
    give_up_result (t, entry);
  return entry != NULL;
}

bool
table_had (struct table *t, uint64_t id)
{
  LOCK_FOR_SCOPE (&t->lock);
  return id > 0 && id < t->next_id;
}

/* Is it still open?  The lock is held. */
static bool
is_ending_target (const struct table *t, const char *target)
{
  const struct table_entry *entry;

  for (entry = t->entries; entry < t->entries + CBW_NR_SNAPSHOTS; ++entry)
    if (entry->use == TABLE_ENDING && strcmp (entry->target, target) == 0)
      return true;
  return false;
}

void
table_wait_target (struct table *t, const char *target, uint64_t timeout_ns)
{
  const struct timespec until = cond_until (now_monotonic_ns () + timeout_ns);
  int r = 0;

  LOCK_FOR_SCOPE (&t->lock);
  while (is_ending_target (t, target) && r == 0)
    r = pthread_cond_timedwait (&t->ended, &t->lock, &until);
}

bool
table_wait_ended (struct table *t, uint64_t id, uint64_t timeout_ns)
{
  const struct timespec until = cond_until (now_monotonic_ns () + timeout_ns);
  struct table_entry *entry;
  int r = 0;

  LOCK_FOR_SCOPE (&t->lock);
  while ((entry = find (t, id)) != NULL && entry->use == TABLE_ENDING &&
         r == 0)
    r = pthread_cond_timedwait (&t->ended, &t->lock, &until);
  return entry == NULL || entry->use != TABLE_ENDING;
}
