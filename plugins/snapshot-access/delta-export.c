/* SPDX-License-Identifier: BSD-3-Clause */

/* Deltas as exports, for shm-backend.c: which are open, what the list of
 * exports says of them, and their extents.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "delta-export.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* ---- Those that are open ---- */

static struct delta_export *all;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

/* Are they the same?  Of two with the same ends, one can have been read before
 * the server found that the source had lost changes, and counted these too
 * (docs/correctness.md, section 27).
 */
static bool
is_same (const struct delta *a, const struct delta *b)
{
  return a->from.id == b->from.id && a->to.id == b->to.id &&
    a->bits.nbits == b->bits.nbits &&
    memcmp ((void *) a->bits.words, (void *) b->bits.words,
            bitmap_bytes (a->bits.nbits)) == 0;
}

/* Let others find *fresh, unless the same is open already.  Returns a reference
 * to the one to be used.
 */
static struct delta_export *
share (struct delta_export *fresh)
{
  struct delta_export *x;

  LOCK_FOR_SCOPE (&all_lock);
  for (x = all; x; x = x->next)
    if (is_same (&x->delta, &fresh->delta)) {
      x->refs++;
      return x;
    }
  fresh->refs = 1;
  fresh->next = all;
  all = fresh;
  return fresh;
}

static void
free_export (struct delta_export *x)
{
  delta_free (&x->delta);
  free (x);
}

struct delta_export *
delta_export_open (const struct segment *s, const char *name,
                   struct snapshot_info *to, struct error *e)
{
  struct delta_export *fresh, *x;
  struct delta d;

  if (delta_read (s, name, &d, e) == -1)
    return NULL;
  *to = d.to;
  fresh = malloc (sizeof *fresh);
  if (fresh == NULL) {
    delta_free (&d);
    error_set_errno (e, ENOMEM, "%s", s->path);
    return NULL;
  }
  *fresh = (struct delta_export) { .delta = d, .bytes = delta_bytes (&d) };
  x = share (fresh);
  if (x != fresh)
    free_export (fresh);
  return x;
}

void
delta_export_close (struct delta_export *x)
{
  struct delta_export **p = &all;

  {
    LOCK_FOR_SCOPE (&all_lock);
    if (--x->refs > 0)
      return;
    while (*p != x)
      p = &(*p)->next;
    *p = x->next;
  }
  free_export (x);
}

/* ---- The list of exports ---- */

void
delta_export_describe (const struct delta *d, uint64_t bytes, char *buf,
                       size_t len)
{
  snprintf (buf, len, "changes from \"%s\" to \"%s\", %" PRIu64 " bytes of %"
            PRIu64 " (%.1f %%)", d->from.name, d->to.name, bytes, d->to.size,
            d->to.size ? 100.0 * (double) bytes / (double) d->to.size : 0.0);
}

/* How large the listed deltas are, for people, by the index of the snapshot: a
 * large bitmap is not to be read for each client that asks what there is.
 */
static struct {
  uint64_t from, to;            /* ids; 0: not known */
  uint64_t bytes;
} sizes[CBW_NR_SNAPSHOTS];
static pthread_mutex_t sizes_lock = PTHREAD_MUTEX_INITIALIZER;

static bool
size_is_known (const struct delta *d, uint64_t *bytes)
{
  LOCK_FOR_SCOPE (&sizes_lock);
  *bytes = sizes[d->to.index].bytes;
  return sizes[d->to.index].from == d->from.id &&
    sizes[d->to.index].to == d->to.id;
}

static bool
find_size (const struct segment *s, struct delta *d, uint64_t *bytes)
{
  struct error e;

  if (size_is_known (d, bytes))
    return true;
  if (delta_load (s, d, &e) == -1)
    return false;
  *bytes = delta_bytes (d);
  delta_free (d);
  LOCK_FOR_SCOPE (&sizes_lock);
  sizes[d->to.index].from = d->from.id;
  sizes[d->to.index].to = d->to.id;
  sizes[d->to.index].bytes = *bytes;
  return true;
}

/* The newest valid point that is older than snapshot "id". */
static bool
point_before (const struct cbw_map *m, uint64_t id, struct point *p)
{
  struct point found;
  bool any = false;
  unsigned i;

  for (i = 0; i < CBW_NR_POINTS; ++i)
    if (point_copy (m, i, &found) == POINT_COPIED && found.id < id &&
        found.state == CBW_POINT_VALID && (!any || found.id > p->id)) {
      *p = found;
      any = true;
    }
  return any;
}

bool
delta_export_list (const struct segment *s, const struct snapshot_info *to,
                   struct delta_listed *listed)
{
  struct point from;
  struct delta d;
  struct error e;
  uint64_t bytes;

  if (to->state != CBW_SNAPSHOT_LIVE || !point_before (&s->map, to->id, &from))
    return false;
  snprintf (listed->name, sizeof listed->name, "%s..%s", from.name, to->name);
  /* Does the name mean that one?  Names may be used twice, for a moment. */
  if (delta_find (s, listed->name, &d, &e) == -1 ||
      d.from.id != from.id || d.to.id != to->id ||
      !find_size (s, &d, &bytes))
    return false;
  delta_export_describe (&d, bytes, listed->text, sizeof listed->text);
  return true;
}

/* ---- Extents ---- */

/* How often one request may ask the view, if each cluster that has changed
 * stands alone.  The client asks for the rest.
 */
#define ASKS_MAX 1024

/* As much as a reply of NBD can tell of one extent. */
#define BEYOND_MAX (UINT64_C (1) << 32)

struct sink {
  uint64_t at;                  /* the extents up to here have been given */
  uint64_t run;                 /* end of the run that "at" is in */

  /* The view's last extent, which may reach beyond the run.  A snapshot does
   * not change, so it holds for the next runs, too.
   */
  uint64_t last_end;
  uint32_t last_type;

  bool one;                     /* only the first is needed: */
  bool any;
  uint32_t first_type;
  bool full;                    /* it has been given, or add() has failed */
  int err;

  int (*add) (void *opaque, uint64_t offset, uint64_t length, uint32_t type);
  void *opaque;
};

static void
give (struct sink *s, uint64_t end, uint32_t type)
{
  if (s->full || end <= s->at)
    return;
  if (s->one && s->any && type != s->first_type) {
    s->full = true;
    return;
  }
  if (s->add (s->opaque, s->at, end - s->at, type) == -1) {
    s->full = true;
    s->err = ENOMEM;
    return;
  }
  s->any = true;
  s->first_type = type;
  s->at = end;
}

/* The view's extents of a part of the run. */
static int
give_from_view (void *opaque, uint64_t offset, uint64_t length, uint32_t type)
{
  struct sink *s = opaque;

  s->last_end = offset + length;
  s->last_type = type;
  give (s, min_u64 (s->last_end, s->run), type);
  return s->full ? -1 : 0;
}

/* Give what is in the delta, from s->at on. */
static int
give_changed (struct sink *s, uint64_t end, const struct delta_view *view)
{
  const uint64_t before = s->at;
  int r;

  if (s->at < s->last_end) {
    give (s, min_u64 (s->last_end, s->run), s->last_type);
    return s->err;
  }
  r = view->ask (view->handle, (uint32_t) (min_u64 (s->run, end) - s->at),
                 s->at, give_from_view, s);
  if (s->full)                  /* which the view takes for a failure */
    return s->err;
  return r != 0 ? r : s->at == before ? EIO : 0;
}

int
delta_export_extents (const struct delta *d, uint32_t count, uint64_t offset,
                      bool one, const struct delta_view *view,
                      int (*add) (void *opaque, uint64_t offset,
                                  uint64_t length, uint32_t type),
                      void *opaque)
{
  const uint64_t end = offset + count;
  const uint64_t limit = offset + min_u64 (d->size - offset, BEYOND_MAX);
  struct sink s = {
    .at = offset, .one = one, .add = add, .opaque = opaque
  };
  unsigned asks = 0;
  int r = 0;

  while (r == 0 && !s.full && s.at < end) {
    if (!delta_run (d, s.at, limit, &s.run))
      give (&s, s.run, CBW_EXTENT_HOLE);
    else if (s.at >= s.last_end && asks++ == ASKS_MAX)
      break;
    else
      r = give_changed (&s, end, view);
  }
  return r != 0 ? r : s.err;
}
