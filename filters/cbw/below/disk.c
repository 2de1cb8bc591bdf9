/* SPDX-License-Identifier: BSD-3-Clause */

/* Opening contexts of the protected disk.
 *
 * A plugin's open may wait for ever, on a server that takes no further
 * connection for example.  So it is called in a thread of its own, and who
 * wants to know waits for that only so long.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "below/descriptors.h"
#include "below/disk.h"
#include "below/source.h"
#include "utils/cleanup.h"

struct disk_context {
  struct disk_context *older;
  nbdkit_next *next;
};

static void
opener_thread (void *opaque);

void
disk_init (struct disk *d, nbdkit_backend *backend, pthread_mutex_t *serial)
{
  d->backend = backend;
  d->serial = serial;
  atomic_init (&d->next, NULL);
  atomic_init (&d->size, 0);
  atomic_init (&d->seen, 0);
  atomic_init (&d->apart, false);
  d->forgets = d->flush_writes = false;
  d->file = (struct source_file) { .fd = -1 };
  pthread_mutex_init (&d->lock, NULL);
  cond_init (&d->wake);
  d->contexts = NULL;
  d->asked = d->answered = 0;
  d->stop = false;
  d->file_lost = NULL;
  thread_group_init (&d->opener, opener_thread, d);
}

static void
context_close (struct disk_context *c)
{
  c->next->finalize (c->next);
  nbdkit_next_context_close (c->next);
  free (c);
}

/* A new context, prepared and described; NULL after nbdkit_error. */
static struct disk_context *
context_open (struct disk *d, struct source_info *info)
{
  struct disk_context *c = calloc (1, sizeof *c);

  if (c == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  LOCK_FOR_SCOPE (d->serial);
  c->next = nbdkit_next_context_open (d->backend, 1, "", true);     /* G1 */
  if (c->next == NULL) {
    free (c);
    return NULL;
  }
  if (c->next->prepare (c->next) == 0 &&
      source_describe (c->next, info) == 0)
    return c;
  context_close (c);
  return NULL;
}

bool
disk_lend (struct disk *d, nbdkit_next *next, uint64_t size)
{
  LOCK_FOR_SCOPE (&d->lock);
  if (disk_next (d) != NULL && size <= disk_size (d))
    return false;
  atomic_store_explicit (&d->next, next, memory_order_release);     /* G2 */
  atomic_store_explicit (&d->size, size, memory_order_release);     /* G3 */
  return true;
}

/* Use the context, or close it if that would change nothing. */
static void
context_use (struct disk *d, struct disk_context *c, uint64_t size)
{
  if (disk_lend (d, c->next, size)) {
    LOCK_FOR_SCOPE (&d->lock);
    c->older = d->contexts;
    d->contexts = c;
    return;
  }
  LOCK_FOR_SCOPE (d->serial);
  context_close (c);
}

void
disk_has_no_file (struct disk *d, const char *why)
{
  nbdkit_debug (d->file.kept ? "cbw: the disk's file is not known: %s" :
                "cbw: clients may not read the disk themselves: %s", why);
  LOCK_FOR_SCOPE (&d->lock);
  if (atomic_exchange (&d->file.known, false) && d->file_lost)
    d->file_lost (d->file_lost_opaque);
}

void
disk_on_file_lost (struct disk *d, void (*lost) (void *opaque), void *opaque)
{
  LOCK_FOR_SCOPE (&d->lock);
  d->file_lost = lost;
  d->file_lost_opaque = opaque;
}

/* The first context has been opened, when these descriptors were open. */
static void
find_file (struct disk *d, const struct source_info *info,
           const struct descriptors *before)
{
  nbdkit_next *next = disk_next (d);
  char path[PATH_MAX];
  struct error e;
  int r;

  {
    LOCK_FOR_SCOPE (d->serial);
    r = source_file_find (&d->file, next, info->size, info->minimum_block,
                          before, &e);
  }
  if (r == -1) {
    disk_has_no_file (d, e.msg);
    return;
  }
  source_file_path (&d->file, path, sizeof path);
  if (!d->file.kept)
    nbdkit_debug ("cbw: clients may read %s themselves", path);
}

int
disk_open (struct disk *d, bool find, bool direct)
{
  CLEANUP_DESCRIPTORS struct descriptors before;
  struct disk_context *c;
  struct source_info info;

  descriptors_get (&before);
  c = context_open (d, &info);
  if (c == NULL)
    return -1;
  context_use (d, c, info.size);
  d->file.kept = !direct;
  if (!direct)
    nbdkit_debug ("cbw: clients may not read the disk themselves: "
                  "cbw-direct=off");
  if (find)
    find_file (d, &info, &before);
  return 0;
}

/* Another context is about to be used, as the disk has grown.  If it may be of
 * another file than is known, no client may read that any more.
 */
static void
check_file (struct disk *d, const struct descriptors *before)
{
  struct error e;

  if (source_file_is_known (&d->file) &&
      source_file_check (&d->file, before, &e) == -1)               /* S4 */
    disk_has_no_file (d, e.msg);                                    /* S5 */
}

/* One look: open, compare.  The lock is not held. */
static void
look_at_disk (struct disk *d, uint64_t *found, struct error *e)
{
  CLEANUP_DESCRIPTORS struct descriptors open_before = { .nr = 0 };
  const uint64_t before = disk_size (d);
  struct disk_context *c;
  struct source_info info;

  if (source_file_is_known (&d->file)) /* it never comes to be known later */
    descriptors_get (&open_before);
  c = context_open (d, &info);
  e->num = 0;
  if (c == NULL) {
    error_set (e, EIO, "the disk cannot be opened anew, to see whether it has "
               "grown: its plugin's message is in the server's log");
    return;
  }
  *found = info.size;
  if (info.size > before)
    check_file (d, &open_before);
  context_use (d, c, info.size);
  if (info.size > before)
    nbdkit_debug ("cbw: the disk has grown from %" PRIu64 " to %" PRIu64
                  " bytes", before, info.size);
}

/* The thread that opens contexts. */
static void
opener_thread (void *opaque)
{
  struct disk *d = opaque;
  uint64_t asked, found = 0;
  struct error e;

  LOCK_FOR_SCOPE (&d->lock);
  while (!d->stop) {
    if (d->asked == d->answered) {
      pthread_cond_wait (&d->wake, &d->lock);
      continue;
    }
    asked = d->asked;
    pthread_mutex_unlock (&d->lock);
    look_at_disk (d, &found, &e);
    pthread_mutex_lock (&d->lock);
    d->answered = asked;
    d->found = found;
    d->failed = e;
    pthread_cond_broadcast (&d->wake);
  }
}

int
disk_look (struct disk *d, struct error *e)
{
  const struct timespec until =
    cond_until (now_monotonic_ns () + DISK_PATIENCE);
  uint64_t mine;
  int r = 0;

  if (d->backend == NULL)
    return 0;
  LOCK_FOR_SCOPE (&d->lock);
  if (d->opener.started == 0 &&
      (r = thread_group_start (&d->opener, 1)) != 0)
    return error_set_errno (e, r, "cannot start a thread to open the disk");
  mine = ++d->asked;
  pthread_cond_broadcast (&d->wake);
  while (d->answered < mine && r == 0)
    r = pthread_cond_timedwait (&d->wake, &d->lock, &until);
  if (d->answered < mine)
    return error_set (e, ETIMEDOUT, "the disk cannot be opened anew, to see "
                      "whether it has grown: its plugin has not answered for "
                      "%d seconds; does what it connects to allow another "
                      "connection?", (int) (DISK_PATIENCE / NS_PER_SEC));
  if (d->failed.num != 0) {
    *e = d->failed;
    return -1;
  }
  if (d->found < disk_size (d))
    return error_set (e, EINVAL, "the disk has shrunk from %" PRIu64 " to %"
                      PRIu64 " bytes while it was served; make it as large as "
                      "it was, or start the server anew, without this segment",
                      disk_size (d), d->found);
  return 0;
}

void
disk_stop (struct disk *d)
{
  LOCK_FOR_SCOPE (&d->lock);
  d->stop = true;
  pthread_cond_broadcast (&d->wake);
}

bool
disk_join (struct disk *d, uint64_t until)
{
  return thread_group_join (&d->opener, until);
}

void
disk_free (struct disk *d)
{
  struct disk_context *c;

  while ((c = d->contexts) != NULL) {
    d->contexts = c->older;
    context_close (c);
  }
  thread_group_free (&d->opener);
  pthread_cond_destroy (&d->wake);
  pthread_mutex_destroy (&d->lock);
}
