/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups while the stress test's writers write. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include <libnbd.h>

#include "image-oracle.h"
#include "request/control.h"
#include "segment/entry.h"
#include "stress-backup.h"
#include "unit.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* How long a server may be away, or anything take. */
#define PATIENCE (60 * NS_PER_SEC)

struct work {
  struct stress_backups *b;
  struct client client;
  unsigned char *data;          /* the disk at the cut */
  char name[CBW_NAME_MAX], image[CBW_TARGET_MAX];
  unsigned index;
  uint64_t id, nr;
};

__attribute__ ((format (printf, 2, 3), noreturn)) static void
die (const struct work *w, const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  fprintf (stderr, "stress: backup %s: ", w->name);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
  fflush (stderr);
  _exit (1);
}

static void
rest (const struct work *w, uint64_t since, const char *what)
{
  if (now_monotonic_ns () > since + PATIENCE)
    die (w, "%s takes too long", what);
  usleep (2000);
}

static const struct cbw_map *
map (const struct work *w)
{
  return &w->client.segment.map;
}

/* ---- Beginning ---- */

static void
begin (struct work *w, uint64_t speed)
{
  const struct control_snapshot s = {
    .name = w->name, .target = w->image, .options = { .backup = 1 },
    .speed = speed,
  };
  const uint64_t since = now_monotonic_ns ();
  struct snapshot_info info;
  uint64_t held_ns;
  struct error e;

  /* Refused if a guest's change takes too long just now. */
  while (control_create (&w->client, &s, &held_ns, &e) == -1) {
    if (e.num != EBUSY)
      die (w, "%s", e.msg);
    rest (w, since, "to begin it");
  }
  if (!entry_find (map (w), w->name, &info))
    die (w, "it was begun, and is not there");
  w->id = info.id;
  w->index = info.index;
}

/* Read the whole view; false if the server does not serve it now. */
static bool
try_read_view (struct work *w)
{
  struct nbd_handle *nbd = nbd_create ();
  const uint64_t size = w->b->model->size;
  uint64_t offset, n = 0;
  char uri[512];
  bool r;

  snprintf (uri, sizeof uri, "nbd+unix:///%s%s", w->name,
            strchr (w->b->snap, '?'));
  r = nbd && nbd_connect_uri (nbd, uri) == 0;
  for (offset = 0; r && offset < size; offset += n) {
    n = min_u64 (size - offset, 1 << 20);
    r = nbd_pread (nbd, w->data + offset, n, offset, 0) == 0;
  }
  if (nbd)
    nbd_close (nbd);
  return r;
}

static enum backup_stand
look (const struct work *w)
{
  const enum backup_stand stand = backup_look (map (w), w->index, w->id);

  if (stand == BACKUP_FAILED)
    die (w, "it has failed");
  return stand;
}

/* Through whatever happens to the servers.  False if it is complete, as the
 * guests have overwritten the whole disk.
 */
static bool
read_view (struct work *w)
{
  const uint64_t since = now_monotonic_ns ();

  while (!try_read_view (w)) {
    if (look (w) != BACKUP_RUNS)
      return false;
    rest (w, since, "to read its view");
  }
  return true;
}

/* Between two changes, so that it is known what the disk holds. */
static void
begin_quietly (struct work *w, uint64_t speed)
{
  pthread_rwlock_wrlock (w->b->change);
  memcpy (w->data, w->b->model->now, w->b->model->size);
  begin (w, speed);
  pthread_rwlock_unlock (w->b->change);
}

/* Among changes, and so slowly that there is time to read it: only the view
 * tells what the disk was at the cut.  If there was no time, the image does.
 */
static void
begin_unquietly (struct work *w)
{
  int fd;

  begin (w, 1);
  if (read_view (w))
    return;
  fd = open (w->image, O_RDONLY | O_CLOEXEC);
  if (fd == -1 || read (fd, w->data, w->b->model->size) !=
      (ssize_t) w->b->model->size)
    die (w, "the image cannot be read: %m");
  close (fd);
}

/* ---- Its end ---- */

static void
job (struct work *w, enum cbw_job_action action, uint64_t speed)
{
  struct error e;

  /* It may be complete already. */
  if (control_job (&w->client, w->id, action, speed, &e) == -1 &&
      ((e.num != EALREADY && e.num != ENOENT) || look (w) == BACKUP_RUNS))
    die (w, "%s", e.msg);
}

/* Forget the backup, and cancel it if it is not complete. */
static void
drop (struct work *w)
{
  const uint64_t since = now_monotonic_ns ();
  struct error e;

  while (control_drop_id (&w->client, w->id, 0, 0, &e) == -1) {
    if (e.num != EBUSY)
      die (w, "%s", e.msg);
    rest (w, since, "to drop it");
  }
}

/* The image is whole, and nobody else needs it. */
static void
check_image (struct work *w)
{
  const uint64_t size = w->b->model->size;
  char why[256];

  if (!image_same (w->image, w->data, size, why, sizeof why))
    die (w, "the image is not the disk at its cut: %s", why);
  drop (w);
  if (!image_same (w->image, w->data, size, why, sizeof why))
    die (w, "the image has changed: %s", why);
  image_scribble (w->image, size, w->nr);
  unlink (w->image);
  w->b->complete++;
}

static void
await (struct work *w)
{
  const uint64_t since = now_monotonic_ns ();

  while (look (w) == BACKUP_RUNS)
    rest (w, since, "its end");
  check_image (w);
}

static void
cancel (struct work *w)
{
  const char *slash = strrchr (w->b->segment, '/');
  const uint64_t since = now_monotonic_ns ();
  char dir[CBW_TARGET_MAX], found[256];

  drop (w);
  if (access (w->image, F_OK) == 0) {
    check_image (w);            /* complete before that */
    return;
  }
  snprintf (dir, sizeof dir, "%.*s", (int) (slash - w->b->segment),
            w->b->segment);
  while (image_left (dir, w->image, found, sizeof found))
    rest (w, since, "to remove its image");
  w->b->cancelled++;
}

/* ---- The whole ---- */

static void
back_up (struct work *w)
{
  struct stress_backups *b = w->b;
  const uint64_t speeds[] = { 0, 3 * b->model->size, 20 * b->model->size };
  const uint64_t dice = unit_random (&b->seed);
  const uint64_t speed = speeds[unit_random (&b->seed) % 3];
  const uint64_t pause_us = unit_random (&b->seed) % 100000;

  snprintf (w->name, sizeof w->name, "b%" PRIu64, w->nr);
  snprintf (w->image, sizeof w->image, "%s.%s.bak", b->segment, w->name);
  if (dice % 4 == 0) {
    begin_unquietly (w);
    job (w, CBW_JOB_SPEED, speed);
  }
  else
    begin_quietly (w, speed);
  if (dice / 4 % 4 == 0)
    job (w, CBW_JOB_PAUSE, 0);
  usleep ((useconds_t) pause_us);
  if (dice / 16 % 3 == 0) {
    cancel (w);
    return;
  }
  job (w, CBW_JOB_RESUME, 0);
  await (w);
}

void *
stress_backups_run (void *opaque)
{
  struct work w = { .b = opaque };
  struct error e;

  w.data = malloc (w.b->model->size);
  if (w.data == NULL ||
      client_attach (&w.client, w.b->segment, "stress", false, PATIENCE,
                     &e) == -1)
    die (&w, "%s", w.data ? e.msg : "no memory");
  w.client.server_timeout_ns = PATIENCE;
  for (w.nr = 1; w.b->go_on (); ++w.nr)
    back_up (&w);
  client_detach (&w.client);
  free (w.data);
  return NULL;
}
