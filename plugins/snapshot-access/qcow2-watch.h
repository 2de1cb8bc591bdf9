/* SPDX-License-Identifier: BSD-3-Clause */

/* A snapshot in a qcow2 image that somebody else may change: is it still
 * there?
 *
 * Functions return -1 with the error set on failure; the message names the
 * image.
 */

#ifndef CBW_QCOW2_WATCH_H
#define CBW_QCOW2_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "image/qcow2/qcow2-table.h"
#include "utils/error.h"

struct qcow2_watch {
  /* Never changed while it is open. */
  char *path;
  int fd;
  struct stat st;               /* of the file */
  struct qcow2_table opened;    /* the table as it was then */
  const struct qcow2_snapshot *snapshot; /* in it */

  _Atomic (bool) gone;          /* deleted: never false again */

  pthread_rwlock_t lock;        /* for the rest */
  struct qcow2_table table;     /* as it was when we last looked */
  uint32_t index;               /* of the snapshot in it */
};

/* Read the snapshot table of the image at "path".  Returns a descriptor of
 * the image; or -1, and there is nothing to free.
 */
extern int qcow2_watch_table (const char *path, struct qcow2_table *t,
                              struct error *e);

/* Find the snapshot of that name or id, or the newest if it is NULL.
 * ENOENT if there is none, EINVAL if it is damaged.
 */
extern int qcow2_watch_open (struct qcow2_watch *w, const char *path,
                             const char *name_or_id, struct error *e);
extern void qcow2_watch_close (struct qcow2_watch *w);

/* Is it in the image?  If so, then what had been read of its clusters
 * before this call are its bytes.  ESHUTDOWN: it was deleted, and so it
 * stays; other errors mean that the image could not be read.  Any thread.
 */
extern int qcow2_watch_check (struct qcow2_watch *w, struct error *e);

/* Read the table as it is now.  Returns the snapshot in it; or NULL with
 * the error set as by qcow2_watch_check, and there is nothing to free.
 */
extern const struct qcow2_snapshot *
qcow2_watch_read (struct qcow2_watch *w, struct qcow2_table *t,
                  struct error *e);

/* It was deleted: set that error. */
extern int qcow2_watch_gone (struct qcow2_watch *w, struct error *e);

/* Is the file at the path another one by now?  ESTALE. */
extern int qcow2_watch_same_file (const struct qcow2_watch *w,
                                  struct error *e);

/* Do the two watch the same snapshot of the same file? */
extern bool qcow2_watch_same (const struct qcow2_watch *w,
                              const struct qcow2_watch *o);

#endif /* CBW_QCOW2_WATCH_H */
