/* SPDX-License-Identifier: BSD-3-Clause */

/* Watching one snapshot of a qcow2 image, for qcow2-view.c.  A look compares
 * the pointer to the table first, and reads the table only if that has changed.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qcow2-watch.h"

/* Put the name of the image before the message.  Returns -1. */
static int
of_image (const char *path, struct error *e)
{
  const struct error inner = *e;

  return error_set (e, inner.num, "%s: %s", path, inner.msg);
}

int
qcow2_watch_table (const char *path, struct qcow2_table *t, struct error *e)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  if (fd == -1)
    return error_set_errno (e, errno, "%s: cannot open", path);
  if (qcow2_table_read (fd, t, e) == -1) {
    close (fd);
    return of_image (path, e);
  }
  return fd;
}

int
qcow2_watch_gone (struct qcow2_watch *w, struct error *e)
{
  atomic_store (&w->gone, true);
  return error_set (e, ESHUTDOWN, "%s: the snapshot was deleted", w->path);
}

const struct qcow2_snapshot *
qcow2_watch_read (struct qcow2_watch *w, struct qcow2_table *t,
                  struct error *e)
{
  const struct qcow2_snapshot *s;

  if (qcow2_table_read (w->fd, t, e) == -1) {
    of_image (w->path, e);
    return NULL;
  }
  s = qcow2_table_same (t, w->snapshot);
  if (s == NULL) {
    qcow2_table_free (t);
    qcow2_watch_gone (w, e);
  }
  return s;
}

/* The table has changed: look for the snapshot in the new one. */
static int
read_again (struct qcow2_watch *w, struct error *e)
{
  const struct qcow2_snapshot *s;
  struct qcow2_table now;

  s = qcow2_watch_read (w, &now, e);
  if (s == NULL)
    return -1;
  pthread_rwlock_wrlock (&w->lock);
  qcow2_table_free (&w->table);
  w->table = now;
  w->index = (uint32_t) (s - now.snapshots);
  pthread_rwlock_unlock (&w->lock);
  return 0;
}

int
qcow2_watch_check (struct qcow2_watch *w, struct error *e)
{
  int r;

  if (atomic_load (&w->gone))
    return qcow2_watch_gone (w, e);
  pthread_rwlock_rdlock (&w->lock);
  r = qcow2_table_unchanged (w->fd, &w->table, w->index, e);
  pthread_rwlock_unlock (&w->lock);
  if (r == -1)
    return of_image (w->path, e);
  return r == 1 ? 0 : read_again (w, e);
}

int
qcow2_watch_same_file (const struct qcow2_watch *w, struct error *e)
{
  struct stat st;

  if (stat (w->path, &st) == -1)
    return error_set_errno (e, errno, "%s", w->path);
  if (st.st_dev != w->st.st_dev || st.st_ino != w->st.st_ino)
    return error_set (e, ESTALE, "%s: was replaced by another file; connect "
                      "again to read that one", w->path);
  return 0;
}

/* Have it in w->opened and in w->table, or a message why not. */
static int
find_snapshot (struct qcow2_watch *w, const char *name_or_id, struct error *e)
{
  const struct qcow2_table *t = &w->opened;
  const struct qcow2_snapshot *s;

  if (t->encrypted)
    return error_set (e, ENOTSUP, "%s: is encrypted, which is not supported",
                      w->path);
  s = name_or_id ? qcow2_table_find (t, name_or_id) : qcow2_table_newest (t);
  if (s == NULL)
    return name_or_id ?
      error_set (e, ENOENT, "%s: there is no snapshot \"%s\"", w->path,
                 name_or_id) :
      error_set (e, ENOENT, "%s: there is no snapshot", w->path);
  w->snapshot = s;
  if (qcow2_snapshot_check (w->fd, t, s, e) == -1) {
    const struct error inner = *e;

    return error_set (e, inner.num, "%s: snapshot \"%s\" (id %s) %s",
                      w->path, s->name, s->id, inner.msg);
  }
  /* Again, for a copy that may be replaced. */
  return read_again (w, e);
}

int
qcow2_watch_open (struct qcow2_watch *w, const char *path,
                  const char *name_or_id, struct error *e)
{
  memset (w, 0, sizeof *w);
  w->path = strdup (path);
  if (w->path == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  w->fd = qcow2_watch_table (path, &w->opened, e);
  if (w->fd == -1) {
    free (w->path);
    return -1;
  }
  pthread_rwlock_init (&w->lock, NULL);
  if (fstat (w->fd, &w->st) == -1)
    error_set_errno (e, errno, "%s", path);
  else if (find_snapshot (w, name_or_id, e) == 0)
    return 0;
  qcow2_watch_close (w);
  return -1;
}

void
qcow2_watch_close (struct qcow2_watch *w)
{
  qcow2_table_free (&w->table);
  qcow2_table_free (&w->opened);
  close (w->fd);
  pthread_rwlock_destroy (&w->lock);
  free (w->path);
}

bool
qcow2_watch_same (const struct qcow2_watch *w, const struct qcow2_watch *o)
{
  return w->st.st_dev == o->st.st_dev && w->st.st_ino == o->st.st_ino &&
    qcow2_table_same (&w->opened, o->snapshot) == w->snapshot;
}
