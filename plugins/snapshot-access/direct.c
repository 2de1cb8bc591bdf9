/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a snapshot without asking.  The steps V1 to V6 are argued in
 * docs/correctness.md, section 23: if anything is not as expected, what was
 * read is forgotten, and the filter is asked.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "direct.h"
#include "segment/slots.h"
#include "segment/turns.h"
#include "utils/cleanup.h"
#include "utils/clock.h"
#include "utils/rounding.h"
#include "utils/threads.h"
#include "view/read.h"

/* How long to go without after a refusal, if the chain does not change. */
#define REFUSED_FOR NS_PER_SEC

/* How often the thread looks for chains that are not current. */
#define TIDY_INTERVAL NS_PER_SEC

/* A chain that requests of a connection share. */
struct cached {
  struct direct_chain *chain;
  unsigned refs;                /* the connection's lock is held */
  struct cached *next;          /* to be freed, while the thread tidies */
};

/* ---- The cached chain ---- */

static void
cached_free (struct cached *x)
{
  direct_chain_close (x->chain);
  free (x);
}

/* Give up a reference.  Returns what the caller is to free without the lock,
 * or NULL.  The lock is held.
 */
static struct cached *
put_locked (struct cached *x)
{
  return x && --x->refs == 0 ? x : NULL;
}

static void
put (struct direct *d, struct cached *x)
{
  struct cached *last;

  {
    LOCK_FOR_SCOPE (&d->lock);
    last = put_locked (x);
  }
  if (last)
    cached_free (last);
}

/* Forget the cached chain if it is not current.  Returns what to free. */
static struct cached *
forget_old (struct direct *d)
{
  struct cached *old = d->cached;

  if (old == NULL || direct_chain_is_current (old->chain))
    return NULL;
  d->cached = NULL;
  return put_locked (old);
}

static uint64_t
generation (const struct direct *d)
{
  return atomic_load (&map_header (&d->client->segment.map)->
                      chain_generation);
}

/* May a thread ask for a chain now?  The lock is held. */
static bool
may_ask (const struct direct *d)
{
  return !d->off && !d->asking &&
    (now_monotonic_ns () >= d->ask_again || generation (d) != d->refused);
}

/* Ask for the chain as it is now.  Returns a reference, or NULL. */
static struct cached *
ask (struct direct *d)
{
  const uint64_t asked_at = generation (d);
  struct cached *x = calloc (1, sizeof *x);
  struct error e;

  if (x && (x->chain = direct_chain_open (d->client, d->id, &e)) == NULL) {
    nbdkit_debug ("snapshot \"%s\" is read through the filter: %s", d->name,
                  e.msg);
    free (x);
    x = NULL;
  }
  LOCK_FOR_SCOPE (&d->lock);
  d->asking = false;
  if (x == NULL) {
    d->refused = asked_at;
    d->ask_again = now_monotonic_ns () + REFUSED_FOR;
    return NULL;
  }
  nbdkit_debug ("snapshot \"%s\" is read directly", d->name);
  x->refs = 2;                  /* the connection's and the caller's */
  d->cached = x;
  return x;
}

/* V1.  A reference to the cached chain, or NULL. */
static struct cached *
get (struct direct *d)
{
  struct cached *x, *old;
  bool mine = false;

  {
    LOCK_FOR_SCOPE (&d->lock);
    old = forget_old (d);
    x = d->cached;
    if (x)
      x->refs++;
    else if (may_ask (d))
      mine = d->asking = true;
  }
  if (old)
    cached_free (old);
  return mine ? ask (d) : x;
}

/* ---- Tidying ---- */

static struct direct *all;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct thread_group tidier;
static pthread_cond_t wake;
static bool stop;

/* Take from all connections what is to be freed.  all_lock is held. */
static struct cached *
forget_all_old (void)
{
  struct cached *first = NULL, *old;
  struct direct *d;

  for (d = all; d; d = d->next) {
    LOCK_FOR_SCOPE (&d->lock);
    old = forget_old (d);
    if (old) {
      old->next = first;
      first = old;
    }
  }
  return first;
}

/* Without the lock: the last to close a file that was removed may take long. */
static void
free_all (struct cached *first)
{
  struct cached *old;

  while ((old = first) != NULL) {
    first = old->next;
    cached_free (old);
  }
}

static void
tidier_thread (void *opaque)
{
  struct timespec until;
  struct cached *old;

  (void) opaque;
  LOCK_FOR_SCOPE (&all_lock);
  while (!stop) {
    old = forget_all_old ();
    pthread_mutex_unlock (&all_lock);
    free_all (old);
    until = cond_until (now_monotonic_ns () + TIDY_INTERVAL);
    pthread_mutex_lock (&all_lock);
    if (!stop)
      pthread_cond_timedwait (&wake, &all_lock, &until);
  }
}

int
direct_start (void)
{
  cond_init (&wake);
  thread_group_init (&tidier, tidier_thread, NULL);
  return thread_group_start (&tidier, 1);
}

void
direct_stop (void)
{
  {
    LOCK_FOR_SCOPE (&all_lock);
    stop = true;
    pthread_cond_signal (&wake);
  }
  if (thread_group_join (&tidier, UINT64_MAX))
    thread_group_free (&tidier);
}

void
direct_init (struct direct *d, struct client *client, bool on, uint64_t id,
             const char *name)
{
  *d = (struct direct) {
    .client = client, .id = id, .name = name, .off = !on
  };
  pthread_mutex_init (&d->lock, NULL);
  LOCK_FOR_SCOPE (&all_lock);
  d->next = all;
  all = d;
}

void
direct_free (struct direct *d)
{
  struct direct **p = &all;

  {
    LOCK_FOR_SCOPE (&all_lock);
    while (*p != d)
      p = &(*p)->next;
    *p = d->next;
  }
  if (d->cached)
    put (d, d->cached);
  pthread_mutex_destroy (&d->lock);
}

/* ---- Reading ---- */

/* No write that changes nothing is under way, of which what the caller has
 * read of the source may be a part.
 */
static bool
is_certain (const struct direct_chain *c)
{
  const struct cbw_header *h = map_header (&c->client->segment.map);

  atomic_thread_fence (memory_order_acquire);
  return atomic_load_explicit (&h->unchanged_claims,
                               memory_order_acquire) == 0;
}

static bool
read_chain (const struct direct_chain *c, void *buf, uint32_t count,
            uint64_t offset)
{
  struct view_part part;
  struct error e;

  return view_check (&c->views, 0, count, offset) == 0 &&
    view_read_source (&c->views, 0, c->source, buf, count, offset,
                      &part) == 0 &&                                /* V2 */
    is_certain (c) &&                                               /* V3 */
    view_read_rest (&c->views, 0, &part, buf, count, offset,        /* V4 V5 */
                    &e) == 0 &&
    direct_chain_is_current (c);                                    /* V6 */
}

static void
count_read (const struct direct *d, uint32_t count)
{
  struct cbw_direct_counters *n =
    map_direct_counters (&d->client->segment.map,
                         slot_owner_client (d->client->owner));

  atomic_fetch_add_explicit (&n->requests, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&n->read_bytes, count, memory_order_relaxed);
}

bool
direct_read (struct direct *d, void *buf, uint32_t count, uint64_t offset)
{
  struct cached *x = get (d);                                       /* V1 */
  uint64_t turn;
  bool done;

  if (x == NULL)
    return false;
  turn = turns_begin (&d->client->segment.map, count);
  done = read_chain (x->chain, buf, count, offset);
  turns_end (&d->client->segment.map, turn);
  put (d, x);
  if (done)
    count_read (d, count);
  return done;
}

/* The extents of a range, in "extents": how many, or 0 if it is not known. */
static uint32_t
find_extents (const struct direct_chain *c, uint32_t count, uint64_t offset,
              struct cbw_extent *extents)
{
  const uint64_t size = c->views.views[0]->size;
  const uint64_t limit = offset +
    min_u64 (size - offset, count + VIEW_EXTENTS_BEYOND);
  struct view_source said = { .nr = 0 };
  bool discarded = false;
  uint32_t nr = 0;

  if (view_check (&c->views, 0, count, offset) != 0 ||
      view_extents_source (&c->views, 0, c->source, count, offset, limit,
                           &said) != 0 ||                           /* V2 */
      !is_certain (c) ||                                            /* V3 */
      view_extents_rest (&c->views, 0, &said, count, offset, limit, /* V4 V5 */
                         extents, &nr, &discarded) != 0 ||
      discarded ||
      !direct_chain_is_current (c))                                 /* V6 */
    nr = 0;
  free (said.extents);
  return nr;
}

bool
direct_extents (struct direct *d, uint32_t count, uint64_t offset,
                int (*add) (void *opaque, uint64_t offset, uint64_t length,
                            uint32_t type),
                void *opaque, int *r)
{
  CLEANUP_FREE struct cbw_extent *extents = NULL;
  struct cached *x = get (d);                                       /* V1 */
  uint32_t nr = 0, i;

  if (x == NULL)
    return false;
  extents = malloc (CBW_EXTENTS_MAX * sizeof *extents);
  if (extents)
    nr = find_extents (x->chain, count, offset, extents);
  put (d, x);
  *r = 0;
  for (i = 0; i < nr && *r == 0; offset += extents[i++].length)
    if (add (opaque, offset, extents[i].length, extents[i].type) == -1)
      *r = ENOMEM;
  return nr > 0;
}
