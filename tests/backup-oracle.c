/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups in the model of both servers. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>

#include "backup-oracle.h"
#include "image-oracle.h"
#include "request/control.h"
#include "segment/entry.h"
#include "unit.h"
#include "utils/clock.h"

/* How long a backup may take, at any speed, and what it leaves when it is
 * cancelled may stay there.
 */
#define PATIENCE (60 * NS_PER_SEC)

/* What a file holds that is to be replaced. */
#define OLD "old"

struct backups backups;

/* ---- What is there ---- */

enum backup_stand
backup_stand (const struct backup *b)
{
  const enum backup_stand stand = backup_look (map (), b->index, b->id);

  REQUIRE (stand != BACKUP_FAILED, "backup %s has failed", b->name);
  return stand;
}

bool
backup_is_listed (const struct backup *b)
{
  struct snapshot_info info;
  struct cbw_snapshot entry;

  /* Not an earlier one's result, which has its name. */
  return entry_find (map (), b->name, &info) &&
    (b->id == 0 || info.id == b->id) &&
    entry_copy (map (), info.index, &entry) &&
    strcmp (entry.target, b->target) == 0;
}

void
backup_check_image (const struct backup *b)
{
  char why[256];

  REQUIRE (image_same (b->image, b->data, model.size, why, sizeof why),
           "the image of backup %s: %s", b->name, why);
}

/* Forget the result, or leave that to the server. */
static void
fetch (struct backup *b)
{
  struct error e;

  if (b->dice % 2) {
    REQUIRE (control_drop_id (&model.patient, b->id, 0, 0, &e) == 0,
             "the result of backup %s: %s", b->name, e.msg);
    REQUIRE (backup_stand (b) == BACKUP_GONE, "the result of backup %s is "
             "still there", b->name);
  }
  else
    strcpy (backups.kept, b->name);
}

/* It has ended. */
static void
forget (struct backup *b)
{
  free (b->data);
  b->data = NULL;
  b->running = false;
}

/* The image is whole: nobody may need it any more. */
static void
complete (struct backup *b)
{
  if (b->complete) {
    b->complete (b);
    return;
  }
  backup_check_image (b);
  fetch (b);
  backup_check_image (b);
  image_scribble (b->image, model.size, b->dice);
  b->left = b->dice & 2;
  if (!b->left)
    unlink (b->image);
  forget (b);
  backups.completed++;
}

void
backups_check (void)
{
  struct backup *b;

  for (b = backups.list; b < backups.list + NR_BACKUPS; ++b)
    if (b->running && backup_stand (b) != BACKUP_RUNS) {
      /* One that is gone was complete, and its place was needed. */
      backups.evicted += backup_stand (b) == BACKUP_GONE;
      complete (b);
    }
}

bool
backup_image_is_old (const struct backup *b)
{
  char why[256];

  return image_same (b->image, (const unsigned char *) OLD, strlen (OLD), why,
                     sizeof why);
}

void
backup_refused (struct backup *b)
{
  const uint64_t give_up = now_monotonic_ns () + PATIENCE;
  char found[256];

  if (b->force) {
    REQUIRE (backup_image_is_old (b), "%s was not replaced, and is another",
             b->image);
    unlink (b->image);
  }
  while (image_left (model.dir, b->image, found, sizeof found)) {
    REQUIRE (now_monotonic_ns () < give_up, "backup %s does not take place, "
             "and has left %s", b->name, found);
    live_sleep_us (1000);
  }
}

void
backup_cancelled (struct backup *b)
{
  REQUIRE (!backup_is_listed (b), "backup %s was cancelled, and is there",
           b->name);
  if (b->cancelled) {
    b->cancelled (b);
    return;
  }
  /* It may have been complete in the last moment. */
  if (access (b->image, F_OK) == 0 && !backup_image_is_old (b)) {
    complete (b);
    return;
  }
  backup_refused (b);
  forget (b);
  backups.cancelled++;
}

/* ---- Making one ---- */

void
backup_new (struct backup *b, bool again, bool force, uint64_t dice)
{
  const uint64_t n = model.next_name++;
  int fd;

  memset (b, 0, sizeof *b);
  b->dice = dice;
  if (again && backups.kept[0]) {
    strcpy (b->name, backups.kept);
    backups.kept[0] = '\0';
  }
  else
    snprintf (b->name, sizeof b->name, "b%" PRIu64, n);
  snprintf (b->image, sizeof b->image, "%s/b%" PRIu64 IMAGE_SUFFIX,
            model.dir, n);
  strcpy (b->target, b->image);
  b->force = force;
  if (force) {
    fd = open (b->image, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK (fd >= 0 && write (fd, OLD, strlen (OLD)) == (ssize_t) strlen (OLD));
    close (fd);
  }
}

int
backup_begin (struct backup *b, struct client *client, uint64_t speed,
              struct error *e)
{
  const struct control_snapshot s = {
    .name = b->name, .target = b->image, .options = { .backup = 1 },
    .speed = speed, .flags = b->force ? CBW_CREATE_FORCE : 0,
  };
  uint64_t held_ns;

  return control_create (client, &s, &held_ns, e);
}

void
backup_find (struct backup *b)
{
  struct snapshot_info info;

  REQUIRE (entry_find (map (), b->name, &info), "backup %s was begun, and "
           "is not there", b->name);
  b->id = info.id;
  b->index = info.index;
}

void
backup_add (struct backup *b, const unsigned char *data)
{
  backup_find (b);
  b->data = malloc (model.size);
  CHECK (b->data != NULL);
  memcpy (b->data, data, model.size);
  b->running = true;
  backups.begun++;
}

/* ---- What is done to it ---- */

static void
job (struct backup *b, enum cbw_job_action action, uint64_t speed)
{
  struct error e;

  if (control_job (&model.patient, b->id, action, speed, &e) == 0)
    return;
  REQUIRE ((e.num == EALREADY && backup_stand (b) == BACKUP_COMPLETE) ||
           (e.num == ENOENT && backup_stand (b) != BACKUP_RUNS),
           "controlling backup %s: %s", b->name, e.msg);
}

void
backup_cancel (struct backup *b)
{
  struct error e;

  REQUIRE (control_drop_id (&model.patient, b->id, 0, 0, &e) == 0,
           "cancelling backup %s: %s", b->name, e.msg);
  backup_cancelled (b);
}

void
backup_await (struct backup *b)
{
  const uint64_t give_up = now_monotonic_ns () + PATIENCE;

  job (b, CBW_JOB_SPEED, 0);
  job (b, CBW_JOB_RESUME, 0);
  while (backup_stand (b) == BACKUP_RUNS) {
    REQUIRE (now_monotonic_ns () < give_up, "backup %s does not end",
             b->name);
    live_sleep_us (200);
  }
  complete (b);
}

bool
backup_read (struct backup *b)
{
  struct nbd_handle *nbd = live_connect (&model.plugin, b->name);
  int fd;
  bool r;

  r = nbd && nbd_pread (nbd, model.buf, model.size, 0, 0) == 0;
  if (!r) {
    REQUIRE (backup_stand (b) != BACKUP_RUNS, "reading backup %s: %s", b->name,
             nbd_get_error ());
    fd = open (b->image, O_RDONLY | O_CLOEXEC);
    REQUIRE (fd >= 0 && read (fd, model.buf, model.size) ==
             (ssize_t) model.size, "%s: %m", b->image);
    close (fd);
  }
  if (nbd)
    nbd_close (nbd);
  return r;
}

static void
compare_view (struct backup *b)
{
  backup_read (b);
  REQUIRE (memcmp (model.buf, b->data, model.size) == 0,
           "backup %s is not the disk at its cut", b->name);
}

void
backup_control (struct backup *b, uint64_t dice)
{
  switch (dice % 8) {
  case 0: job (b, CBW_JOB_PAUSE, 0); break;
  case 1: job (b, CBW_JOB_RESUME, 0); break;
  case 2: job (b, CBW_JOB_SPEED, 50000 + dice % 3000000); break;
  case 3: job (b, CBW_JOB_SPEED, 0); break;
  case 4: backup_cancel (b); break;
  case 5: backup_await (b); break;
  default: compare_view (b);
  }
}

void
backups_end (uint64_t *seed)
{
  struct snapshot_info info;
  struct cbw_snapshot entry;
  struct backup *b;
  struct error e;
  unsigned i;

  for (b = backups.list; b < backups.list + NR_BACKUPS; ++b) {
    if (b->running && unit_random (seed) % 2)
      backup_cancel (b);
    else if (b->running)
      backup_await (b);
    if (b->left)
      unlink (b->image);
    b->left = false;
  }
  for (i = 0; i < CBW_NR_SNAPSHOTS; ++i)
    if (entry_read (map (), i, &info) &&
        entry_copy (map (), i, &entry) && entry.options.backup)
      REQUIRE (control_drop_id (&model.patient, info.id, 0, 0, &e) == 0,
               "the result of backup %s: %s", info.name, e.msg);
  backups.kept[0] = '\0';
}
