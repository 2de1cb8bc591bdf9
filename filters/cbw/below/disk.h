/* SPDX-License-Identifier: BSD-3-Clause */

/* The protected disk as the filter's own threads read it: one of nbdkit's
 * contexts, which is replaced when the disk has grown.
 *
 * nbdkit asks a plugin once for the size of a context, and asserts that no
 * request passes it.  So a disk that has grown can be read whole only
 * through a new context.  There are two ways to one:
 *
 *   without cbw-export=   a thread of the disk's own opens it
 *   with it               a connection lends its own (cbw.c), since a plugin
 *                         learns the export's name only from a connection
 *
 * A context that was in use stays open until disk_free: a thread may be in a
 * call through it, or about to begin one.
 *
 * Who loads "next" after it has seen a size, or a snapshot of that size,
 * gets a context at least as large: "next" is stored before "size"
 * (release), and sizes only grow.
 */

#ifndef CBW_DISK_H
#define CBW_DISK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "below/source-file.h"
#include "utils/error.h"
#include "utils/threads.h"

struct disk_context;

struct disk {
  nbdkit_backend *backend;      /* NULL: contexts are lent */
  pthread_mutex_t *serial;      /* NULL: the layer below is parallel */
  _Atomic (nbdkit_next *) next; /* the context in use */
  _Atomic (uint64_t) size;      /* of the disk in it, bytes */
  _Atomic (uint64_t) seen;      /* the largest that a guest has seen */
  _Atomic (bool) apart;         /* connections have disks of their own */
  bool forgets;                 /* plugin.h */
  bool flush_writes;            /* plugin.h; it is not flushed then */
  struct source_file file;      /* which it is; it changes under the lock */

  pthread_mutex_t lock;         /* for the rest */
  pthread_cond_t wake;          /* of the thread, and of who waits for it */
  struct disk_context *contexts; /* opened here, the one in use too */
  uint64_t asked, answered;     /* looks wanted so far, and done */
  uint64_t found;               /* size at the last look */
  struct error failed;          /* num is 0 if that succeeded */
  bool stop;
  void (*file_lost) (void *opaque); /* NULL: nobody is to be told */
  void *file_lost_opaque;
  struct thread_group opener;   /* one thread, started with the first look */
};

/* Of the context in use; for calls that begin now. */
static inline nbdkit_next *
disk_next (struct disk *d)
{
  return atomic_load_explicit (&d->next, memory_order_acquire);
}

static inline uint64_t
disk_size (struct disk *d)
{
  return atomic_load_explicit (&d->size, memory_order_acquire);
}

/* A guest's connection has found the disk to be of this size. */
static inline void
disk_saw (struct disk *d, uint64_t size)
{
  uint64_t old = atomic_load (&d->seen);

  while (old < size && !atomic_compare_exchange_weak (&d->seen, &old, size))
    ;
}

/* A disk whose contexts are opened through "backend"; or with NULL are
 * lent.  "serial" is taken around calls into the layer below, or NULL.
 */
extern void disk_init (struct disk *d, nbdkit_backend *backend,
                       pthread_mutex_t *serial);

/* Open the first context; for .after_fork.  With "find_file", find out which
 * file the disk is; without "direct" no client is to read that.  0, or -1 after nbdkit_error.
 */
extern int disk_open (struct disk *d, bool find_file, bool direct);

/* Which file the disk is, is not known, for the reason given: say so in the
 * log.
 */
extern void disk_has_no_file (struct disk *d, const char *why);

/* Call "lost" as soon as it is not known any more, before the disk is read
 * through another context; with NULL, nobody any more.  It is called with the
 * lock held.
 */
extern void disk_on_file_lost (struct disk *d, void (*lost) (void *opaque),
                               void *opaque);

/* From now on the disk is read through this context, which has been
 * prepared and described (source.h) and stays the caller's; it is of "size"
 * bytes.  Returns false if the one in use is as large: then nothing changes.
 */
extern bool disk_lend (struct disk *d, nbdkit_next *next, uint64_t size);

/* Look if the disk has grown, by a new context that is opened after this
 * was called; wait up to DISK_PATIENCE for it.  0 if disk_size is right now,
 * or if contexts are lent; -1 with the error set if the disk cannot be
 * opened (or not in time), or has shrunk.
 */
#define DISK_PATIENCE (10 * NS_PER_SEC)
extern int disk_look (struct disk *d, struct error *e);

/* As in threads.h, when nobody looks at the disk any more.  The thread may be
 * in the plugin, and not come back.  disk_free closes what was opened here,
 * which no thread reads any more.
 */
extern void disk_stop (struct disk *d);
extern bool disk_join (struct disk *d, uint64_t until);
extern void disk_free (struct disk *d);

#endif /* CBW_DISK_H */
