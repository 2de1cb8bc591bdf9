/* SPDX-License-Identifier: BSD-3-Clause */

/* Internal snapshots of a qcow2 image. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "image/qcow2/qcow2-table.h"
#include "qcow2-nbd.h"
#include "qcow2-view.h"
#include "qcow2-watch.h"
#include "utils/rounding.h"
#include "utils/utf8.h"

/* nbdkit's limits. */
#define MAX_EXPORTS 10000
#define MAX_NAME 4096

static const struct params *params;

static int
qcow2_get_ready (struct params *p)
{
  struct qcow2_table t;
  struct error e;
  int fd;

  params = p;
  if (!qcow2_nbd_installed ()) {
    nbdkit_error ("qcow2=%s needs the program qemu-nbd, which was not found "
                  "(Debian: apt install qemu-utils)", params->qcow2);
    return -1;
  }
  fd = qcow2_watch_table (params->qcow2, &t, &e);
  if (fd == -1) {
    nbdkit_error ("%s", e.msg);
    return -1;
  }
  close (fd);
  qcow2_table_free (&t);
  return 0;
}

/* Can it be the name of an export? */
static bool
is_export_name (const char *name)
{
  size_t n;
  uint32_t c;
  const char *p;

  for (p = name; *p; p += n)
    if ((n = utf8_char (p, &c)) == 0)
      return false;
  return p > name && p - name <= MAX_NAME;
}

/* What a client asks for to get this very snapshot: its name, or if that
 * leads to another one, or cannot be an export, its id.
 */
static const char *
export_name (const struct qcow2_table *t, const struct qcow2_snapshot *s)
{
  if (is_export_name (s->name) && qcow2_table_find (t, s->name) == s)
    return s->name;
  if (is_export_name (s->id) && qcow2_table_find (t, s->id) == s)
    return s->id;
  return NULL;
}

static const char *
describe (const struct qcow2_snapshot *s)
{
  const time_t created = (time_t) s->date_sec;
  const bool show_id = is_export_name (s->id) && strlen (s->id) <= 64;
  char date[64], vm_state[64] = "";
  struct tm tm;

  gmtime_r (&created, &tm);
  strftime (date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &tm);
  if (s->vm_state_size > 0)
    snprintf (vm_state, sizeof vm_state, ", with %" PRIu64 " bytes of VM state",
              s->vm_state_size);
  return nbdkit_printf_intern ("snapshot of %s%s%s%s", date,
                               show_id ? ", id " : "", show_id ? s->id : "",
                               vm_state);
}

static int
qcow2_list_exports (struct nbdkit_exports *exports)
{
  struct qcow2_table t;
  const char *name;
  struct error e;
  uint32_t i;
  int fd, r = 0;

  fd = qcow2_watch_table (params->qcow2, &t, &e);
  if (fd == -1) {
    nbdkit_error ("%s", e.msg);
    return -1;
  }
  close (fd);
  if (t.nr > MAX_EXPORTS)
    nbdkit_debug ("only %d of %" PRIu32 " snapshots are listed", MAX_EXPORTS,
                  t.nr);
  for (i = 0; i < min_u64 (t.nr, MAX_EXPORTS) && r == 0; ++i) {
    name = export_name (&t, &t.snapshots[i]);
    if (name)
      r = nbdkit_add_export (exports, name, describe (&t.snapshots[i]));
    else
      nbdkit_debug ("snapshot %" PRIu32 " of the table is not listed: others "
                    "have its name and its id", i);
  }
  qcow2_table_free (&t);
  return r;
}

static const char *
qcow2_default_export (void)
{
  const struct qcow2_snapshot *newest;
  const char *name = NULL;
  struct qcow2_table t;
  struct error e;
  int fd;

  if (params->snapshot)
    return params->snapshot;
  fd = qcow2_watch_table (params->qcow2, &t, &e);
  if (fd == -1) {
    nbdkit_error ("%s", e.msg);
    return NULL;
  }
  close (fd);
  newest = qcow2_table_newest (&t);
  if (newest)
    name = export_name (&t, newest);
  name = name ? nbdkit_strdup_intern (name) : "";
  qcow2_table_free (&t);
  return name;
}

static void *
qcow2_open (const char *name)
{
  struct qcow2_view *v;
  struct error e;

  if (*name == '\0')
    name = params->snapshot;    /* or NULL, the newest */
  v = qcow2_view_open (params->qcow2, name, &e);
  if (v == NULL)
    nbdkit_error ("%s", e.msg);
  return v;
}

static void
qcow2_close (void *handle)
{
  qcow2_view_close (handle);
}

static const char *
qcow2_export_description (void *handle)
{
  return describe (qcow2_view_snapshot (handle));
}

static int64_t
qcow2_get_size (void *handle)
{
  return (int64_t) qcow2_view_snapshot (handle)->disk_size;
}

static int
qcow2_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
  *minimum = 1;
  *preferred = (uint32_t) max_u64 (qcow2_view_cluster_size (handle), 4096);
  *maximum = UINT32_MAX;
  return 0;
}

/* Any connection sees the same, unchanging, bytes. */
static int
qcow2_can_multi_conn (void *handle)
{
  (void) handle;
  return 1;
}

/* Turn the error of a failed request into one for the client. */
static int
reply (const struct error *e, const struct qcow2_view *v, const char *what,
       uint32_t count, uint64_t offset)
{
  const struct qcow2_snapshot *s = qcow2_view_snapshot (v);
  const int err = e->num == ESHUTDOWN || e->num == ENOMEM ||
    e->num == EPERM ? e->num : EIO;

  nbdkit_error ("snapshot \"%s\" (id %s): cannot %s %" PRIu32 " bytes at "
                "offset %" PRIu64 ": %s", s->name, s->id, what, count, offset,
                e->msg);
  nbdkit_set_error (err);
  errno = err;
  return -1;
}

static int
qcow2_pread (void *handle, void *buf, uint32_t count, uint64_t offset)
{
  struct error e;

  if (qcow2_view_pread (handle, buf, count, offset, &e) == -1)
    return reply (&e, handle, "read", count, offset);
  return 0;
}

static int
qcow2_pwrite (void *handle, uint32_t count, uint64_t offset)
{
  struct error e;

  error_set (&e, EPERM, "snapshots are read-only");
  return reply (&e, handle, "write", count, offset);
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, bool data)
{
  return nbdkit_add_extent (opaque, offset, length, data ? 0 :
                            NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
}

static int
qcow2_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               struct nbdkit_extents *extents)
{
  struct error e = { 0 };

  (void) flags;
  if (qcow2_view_extents (handle, count, offset, add_extent, extents, &e) == 0)
    return 0;
  return e.num == 0 ? -1 : reply (&e, handle, "map", count, offset);
}

const struct backend qcow2_backend = {
  .get_ready          = qcow2_get_ready,
  .list_exports       = qcow2_list_exports,
  .default_export     = qcow2_default_export,
  .open               = qcow2_open,
  .close              = qcow2_close,
  .export_description = qcow2_export_description,
  .get_size           = qcow2_get_size,
  .block_size         = qcow2_block_size,
  .can_multi_conn     = qcow2_can_multi_conn,
  .pread              = qcow2_pread,
  .pwrite             = qcow2_pwrite,
  .extents            = qcow2_extents,
};
