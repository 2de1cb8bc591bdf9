/* SPDX-License-Identifier: BSD-3-Clause */

/* What differs between targets that are files and those that are NBD
 * servers, for those who make, take over and drop snapshots.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "below/log.h"
#include "image/nbd/nbd.h"
#include "segment/entry.h"
#include "snapshot/target.h"
#include "utils/rounding.h"

static_assert (sizeof ((struct cbw_snapshot *) 0)->target_words ==
               IMAGE_NBD_WORDS * sizeof (uint64_t), "target_words");

static struct image_id
file_id (const struct cbw_snapshot *fixed)
{
  return (struct image_id) {
    .device = fixed->target_device, .inode = fixed->target_inode
  };
}

/* The image if it is a raw file, else NULL. */
static struct image *
file_of (struct image *image)
{
  return image && image_is_raw (image) ? image : NULL;
}

uint32_t
target_kind (const char *target)
{
  return image_nbd_is_name (target) ? CBW_TARGET_NBD : CBW_TARGET_RAW;
}

/* The image of a backup is made beside the file that it is to be, which may
 * be last night's.  Whether that may go is asked now, as the answer after
 * hours of work would be late.
 */
static int
prepare_partial (struct cbw_snapshot *fixed, bool force,
                 char path[ENTRY_TARGET_MAX], struct error *e)
{
  struct stat st;

  if (image_raw_check_old (fixed->target, force, e) == -1)
    return -1;
  entry_partial_target (fixed, path);
  if (force && image_raw_remove_old (path, e) == -1)
    return -1;
  if (lstat (path, &st) == 0)
    return error_set (e, EEXIST, "%s: is left of a backup that was not "
                      "completed, or another server is writing it; remove it "
                      "if it is not needed", path);
  fixed->target_flags = CBW_TARGET_PARTIAL | (force ? CBW_TARGET_REPLACE : 0);
  return 0;
}

static int
prepare_file (struct cbw_snapshot *fixed, bool force,
              char path[ENTRY_TARGET_MAX], struct error *e)
{
  if (fixed->options.backup)
    return prepare_partial (fixed, force, path, e);
  snprintf (path, ENTRY_TARGET_MAX, "%s", fixed->target);
  if (force && image_raw_remove_old (path, e) == -1)
    return -1;
  return 0;
}

static struct image *
make_file (struct cbw_snapshot *fixed, bool force, bool *created,
           struct error *e)
{
  char path[ENTRY_TARGET_MAX];
  struct image_id id;
  struct image *image;

  if (prepare_file (fixed, force, path, e) == -1)
    return NULL;
  image = image_raw_create (path, fixed->size, &id, created, e);
  if (image) {
    fixed->target_created = *created;
    fixed->target_device = id.device;
    fixed->target_inode = id.inode;
  }
  return image;
}

/* As large as the disk, with blocks no larger than a cluster? */
static int
check_fits (const struct cbw_snapshot *fixed, struct image *image,
            uint64_t size, uint32_t cluster_size, struct error *e)
{
  const uint32_t block = image_nbd_block_size (image);

  if (cluster_size % block != 0)
    return error_set (e, EINVAL, "%s: the server's minimum block size of %"
                      PRIu32 " bytes is larger than a cluster; choose "
                      "another target, or a larger cbw-cluster-size",
                      fixed->target, block);
  if (size < round_up (fixed->size, block))
    return error_set (e, ENOSPC, "%s: the export has %" PRIu64 " bytes, and "
                      "the disk has %" PRIu64 "; a target must be as large",
                      fixed->target, size, round_up (fixed->size, block));
  return 0;
}

/* Can the export be the target?  Sets the flag that says if all of it
 * reads as zeroes.
 */
static int
check_export (struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
              struct image *image, uint64_t size, uint32_t cluster_size,
              bool force, struct error *e)
{
  int content;

  if (check_fits (fixed, image, size, cluster_size, e) == -1)
    return -1;
  content = image_nbd_content (image, fixed->size, e);
  if (content == -1)
    return -1;
  if (content == IMAGE_NBD_DATA && !force)
    return error_set (e, EEXIST, "%s: the export holds data, which would be "
                      "overwritten; choose another, or if it is not needed, "
                      "empty it", fixed->target);
  if (content == IMAGE_NBD_ZERO)
    image_nbd_set_zeroes (image);
  image_nbd_remember (image, words);
  fixed->target_flags = content == IMAGE_NBD_ZERO ? CBW_TARGET_ZEROES : 0;
  return 0;
}

static struct image *
make_export (struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
             uint32_t cluster_size, bool force, struct error *e)
{
  struct image *image;
  uint64_t size;

  image = image_nbd_open (fixed->target, 0, &size, e);
  if (image == NULL)
    return NULL;
  if (check_export (fixed, words, image, size, cluster_size, force,
                    e) == -1) {
    image->ops->close (image);
    return NULL;
  }
  return image;
}

struct image *
target_make (struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
             uint32_t cluster_size, bool force, bool *created,
             struct error *e)
{
  *created = false;
  if (fixed->target_kind == CBW_TARGET_NBD)
    return make_export (fixed, words, cluster_size, force, e);
  return make_file (fixed, force, created, e);
}

static struct image *
update_export (struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
               uint32_t cluster_size, struct error *e)
{
  struct image *image;
  uint64_t size;

  image = image_nbd_open (fixed->target, 0, &size, e);
  if (image == NULL)
    return NULL;
  if (check_fits (fixed, image, size, cluster_size, e) == -1) {
    image->ops->close (image);
    return NULL;
  }
  image_nbd_remember (image, words);
  return image;
}

static struct image *
update_file (struct cbw_snapshot *fixed, const uint8_t uuid[16],
             struct error *e)
{
  struct image_id id;
  struct image *image = image_raw_update (fixed->target, fixed->size, uuid,
                                          &id, e);

  if (image) {
    fixed->target_device = id.device;
    fixed->target_inode = id.inode;
  }
  return image;
}

struct image *
target_make_update (struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
                    uint32_t cluster_size, const uint8_t uuid[16],
                    struct error *e)
{
  fixed->target_flags = CBW_TARGET_UPDATE;
  fixed->target_created = 0;
  return fixed->target_kind == CBW_TARGET_NBD ?
    update_export (fixed, words, cluster_size, e) :
    update_file (fixed, uuid, e);
}

/* What is not removed is left to the user.  It is, if it is another file. */
static void
say_left (const char *path, const struct error *e)
{
  if (e->num == ESTALE)
    log_debug ("cbw: %s", e->msg);
  else
    log_error ("cbw: the target %s is left there: %s", path, e->msg);
}

static void
discard_file (const struct cbw_snapshot *fixed, struct image *image)
{
  struct error e;

  if (image_raw_discard (image, &e) == -1)
    say_left (fixed->target, &e);
}

void
target_undo (const struct cbw_snapshot *fixed, struct image *image)
{
  image = file_of (image);
  if (image)
    discard_file (fixed, image);
}

void
target_undo_reserved (const struct cbw_snapshot *fixed)
{
  char path[ENTRY_TARGET_MAX];
  struct error e;

  if (fixed->target_kind != CBW_TARGET_RAW)
    return;
  entry_target (fixed, CBW_SNAPSHOT_RESERVED, path);
  if (image_raw_remove_unused (path, fixed->size, &e) == -1)
    say_left (path, &e);
}

/* A server that is away is no error.  So what is left is that the server has
 * come back without what it had, or that this program lacks something.
 */
static enum target_opened
reopen_export (const struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
               bool clean, uint32_t cluster_size, struct image **image, struct error *e)
{
  *image = image_nbd_reopen (fixed->target,
                             (fixed->target_flags & CBW_TARGET_ZEROES ?
                              IMAGE_NBD_ZEROES : 0) |
                             (clean ? IMAGE_NBD_FLUSHED : 0), fixed->size, cluster_size,
                             words, e);
  if (*image)
    return TARGET_OPENED;
  switch (e->num) {
  case EMFILE: case ENFILE: case ENOMEM: case EAGAIN:
    return TARGET_NOT_NOW;
  default:
    return TARGET_LOST;
  }
}

enum target_opened
target_reopen (const struct cbw_snapshot *fixed, _Atomic (uint64_t) *words,
               enum cbw_snapshot_state state, bool clean,
               uint32_t cluster_size,
               struct image **image, struct error *e)
{
  const struct image_id id = file_id (fixed);
  char path[ENTRY_TARGET_MAX];

  if (fixed->target_kind == CBW_TARGET_NBD)
    return reopen_export (fixed, words, clean, cluster_size, image, e);
  entry_target (fixed, state, path);
  switch (image_raw_open (path, fixed->size, &id, image, e)) {
  case IMAGE_RAW_LOST:
    return TARGET_LOST;
  case IMAGE_RAW_NOT_NOW:
    return TARGET_NOT_NOW;
  case IMAGE_RAW_OPENED:
    break;
  }
  if (fixed->target_flags & CBW_TARGET_UPDATE)
    (*image)->reads_zero = false;
  if (state == CBW_SNAPSHOT_HIDDEN)
    target_move_aside (fixed, *image); /* the last server had no time to */
  return TARGET_OPENED;
}

/* A backup's image stays where it is: nobody else may be made under its
 * working name, and under the other it is the user's.
 */
void
target_move_aside (const struct cbw_snapshot *fixed, struct image *image)
{
  char path[ENTRY_TARGET_MAX];
  struct error e;

  image = file_of (image);
  if (image == NULL || fixed->options.backup)
    return;
  entry_hidden_target (fixed, path);
  if (!image_raw_is_at (image, path) && image_raw_move (image, path, &e) == -1)
    log_debug ("cbw: %s", e.msg);
}

int
target_publish (const struct cbw_snapshot *fixed, struct image *image,
                struct error *e)
{
  struct image_mark mark = { .kind = IMAGE_MARK_WHOLE };
  struct error why;

  image = file_of (image);
  if (image == NULL)
    return 0;
  memcpy (mark.uuid, fixed->uuid, sizeof mark.uuid);
  /* Where there are no extended attributes an image is as good without. */
  if (image_raw_mark (image, &mark, &why) == -1) {                  /* Y4 */
    log_debug ("cbw: %s", why.msg);
    if (fixed->target_flags & CBW_TARGET_UPDATE || why.num == EIO) {
      *e = why;
      return -1;
    }
  }
  if (!(fixed->target_flags & CBW_TARGET_PARTIAL))
    return 0;
  return image_raw_publish (image, fixed->target,
                            fixed->target_flags & CBW_TARGET_REPLACE, e);
}

/* Has the file the name that the user gave it, and holds a whole image? */
static bool
is_published (const struct cbw_snapshot *fixed, const char *path)
{
  return fixed->target_flags & CBW_TARGET_PARTIAL &&
    strcmp (path, fixed->target) == 0;
}

void
target_discard (const struct cbw_snapshot *fixed, struct image *image)
{
  const struct image_id id = file_id (fixed);
  struct image *file = file_of (image);
  char path[ENTRY_TARGET_MAX];
  struct error e;

  if (fixed->target_flags & CBW_TARGET_UPDATE)
    return;                     /* it is the user's */
  if (fixed->target_kind == CBW_TARGET_NBD) {
    /* Without an image there is nobody to be told. */
    if (image && !image_is_missing (image) &&
        image_nbd_empty (image, fixed->size, &e) == -1)
      log_debug ("cbw: %s", e.msg);
    return;
  }
  if (file) {
    if (!(fixed->target_flags & CBW_TARGET_PARTIAL &&
          image_raw_is_at (file, fixed->target)))
      discard_file (fixed, file);
    return;
  }
  entry_target (fixed, CBW_SNAPSHOT_HIDDEN, path);
  if (!is_published (fixed, path) &&
      image_raw_remove (path, fixed->size, &id, &e) == -1)
    say_left (path, &e);
}
