/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "nbd.h"
#include "rounding.h"
#include "snaptab.h"
#include "target.h"

static_assert (sizeof ((struct cbw_snapshot *) 0)->target_words ==
               IMAGE_NBD_WORDS * sizeof (uint64_t), "target_words");

static struct image_id
file_id (const struct cbw_snapshot *entry)
{
  return (struct image_id) {
    .device = entry->target_device, .inode = entry->target_inode
  };
}

uint32_t
target_kind (const char *target)
{
  return image_nbd_is_name (target) ? CBW_TARGET_NBD : CBW_TARGET_RAW;
}

static struct image *
make_file (struct cbw_snapshot *entry, bool force, bool *created,
           struct error *e)
{
  struct image_id id;
  struct image *image;

  if (force) {
    if (image_raw_remove_old (entry->target, e) == -1)
      return NULL;
    entry->target_created = true;
    entry->sum = snaptab_sum (entry);
  }
  image = image_raw_create (entry->target, entry->size, &id, created, e);
  if (image) {
    entry->target_created = *created;
    entry->target_device = id.device;
    entry->target_inode = id.inode;
    entry->sum = snaptab_sum (entry);
  }
  return image;
}

/* Can the export be the target?  Sets the flag that says if all of it
 * reads as zeroes.
 */
static int
check_export (struct cbw_snapshot *entry, struct image *image, uint64_t size,
              uint32_t cluster_size, bool force, struct error *e)
{
  const uint32_t block = image_nbd_block_size (image);
  int content;

  if (cluster_size % block != 0)
    return error_set (e, EINVAL, "%s: the server's minimum block size of %"
                      PRIu32 " bytes is larger than a cluster; choose "
                      "another target, or a larger cbw-cluster-size",
                      entry->target, block);
  if (size < round_up (entry->size, block))
    return error_set (e, ENOSPC, "%s: the export has %" PRIu64 " bytes, and "
                      "the disk has %" PRIu64 "; a target must be as large",
                      entry->target, size, round_up (entry->size, block));
  content = image_nbd_content (image, entry->size, e);
  if (content == -1)
    return -1;
  if (content == IMAGE_NBD_DATA && !force)
    return error_set (e, EEXIST, "%s: the export holds data, which would be "
                      "overwritten; choose another, or if it is not needed, "
                      "empty it", entry->target);
  if (content == IMAGE_NBD_ZERO)
    image_nbd_set_zeroes (image);
  image_nbd_remember (image, entry->target_words);
  entry->target_flags = content == IMAGE_NBD_ZERO ? CBW_TARGET_ZEROES : 0;
  entry->sum = snaptab_sum (entry);
  return 0;
}

static struct image *
make_export (struct cbw_snapshot *entry, uint32_t cluster_size, bool force,
             struct error *e)
{
  struct image *image;
  uint64_t size;

  image = image_nbd_open (entry->target, 0, &size, e);
  if (image == NULL)
    return NULL;
  if (check_export (entry, image, size, cluster_size, force, e) == -1) {
    image->ops->close (image);
    return NULL;
  }
  return image;
}

struct image *
target_make (struct cbw_snapshot *entry, uint32_t cluster_size, bool force,
             bool *created, struct error *e)
{
  *created = false;
  if (entry->target_kind == CBW_TARGET_NBD)
    return make_export (entry, cluster_size, force, e);
  return make_file (entry, force, created, e);
}

void
target_undo (const struct cbw_snapshot *entry)
{
  if (entry->target_kind == CBW_TARGET_RAW)
    unlink (entry->target);
}

struct image *
target_reopen (struct cbw_snapshot *entry, uint32_t cluster_size,
               bool clean, struct error *e)
{
  const struct image_id id = file_id (entry);
  const enum cbw_snapshot_state state = atomic_load (&entry->state);
  char path[SNAPTAB_TARGET_MAX];

  if (entry->target_kind == CBW_TARGET_NBD)
    return image_nbd_reopen (entry->target,
                             (entry->target_flags & CBW_TARGET_ZEROES ?
                              IMAGE_NBD_ZEROES : 0) |
                             (clean ? IMAGE_NBD_FLUSHED : 0),
                             entry->size, cluster_size, entry->target_words,
                             e);
  if (state == CBW_SNAPSHOT_HIDDEN &&
      atomic_load (&entry->fill.state) != CBW_FILL_COMPLETE)
    target_move_aside (entry);  /* the last server had no time to */
  snaptab_target (entry, state, path);
  return image_raw_open (path, entry->size, &id, e);
}

void
target_move_aside (const struct cbw_snapshot *entry)
{
  const struct image_id id = file_id (entry);
  char path[SNAPTAB_TARGET_MAX];
  struct error e;

  if (entry->target_kind == CBW_TARGET_NBD)
    return;
  snaptab_hidden_target (entry, path);
  if (image_raw_move (entry->target, path, &id, &e) == -1)
    nbdkit_debug ("cbw: %s", e.msg);
}

void
target_discard (const struct cbw_snapshot *entry, struct image *image)
{
  const struct image_id id = file_id (entry);
  char path[SNAPTAB_TARGET_MAX];
  struct error e;

  if (entry->target_kind == CBW_TARGET_RAW) {
    snaptab_target (entry, CBW_SNAPSHOT_HIDDEN, path);
    image_raw_discard (path, &id, entry->size);
  }
  /* Without an image there is nobody to be told. */
  else if (image && image_nbd_empty (image, entry->size, &e) == -1)
    nbdkit_debug ("cbw: %s", e.msg);
}
