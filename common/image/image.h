/* SPDX-License-Identifier: BSD-3-Clause */

/* The target of a snapshot: the temporary image which holds old data.
 *
 * One vtable hides what kind of image it is.
 *
 * Every operation may be called by many threads at once.  Ranges lie
 * within the size given at creation; the engine checks that.  On failure
 * they return -1 and set the error, whose message names the image.
 */

#ifndef CBW_IMAGE_H
#define CBW_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct image;

struct image_ops {
  /* Read or write count bytes at offset, all of them or failure. */
  int (*pread) (struct image *, void *buf, size_t count, uint64_t offset,
                struct error *e);
  int (*pwrite) (struct image *, const void *buf, size_t count,
                 uint64_t offset, struct error *e);

  /* Make count bytes at offset read as zeroes.  Call image_zero. */
  int (*zero) (struct image *, uint64_t offset, uint64_t count,
               struct error *e);

  /* Of what kind is the data at offset, and where does it end?  Sets
   * *data to false if the bytes [offset, *next) are a hole, which reads
   * as zeroes, and to true if they may be data.  offset < *next <= end.
   */
  int (*extent) (struct image *, uint64_t offset, uint64_t end,
                 uint64_t *next, bool *data, struct error *e);

  /* Give the space of [offset, offset+count) back, where the file system
   * can: the bytes are not needed any more, and undefined afterwards.
   */
  int (*punch) (struct image *, uint64_t offset, uint64_t count,
                struct error *e);

  /* Is the image still where and what it was when it was opened?  -1 with
   * ESTALE or another error if it was removed, replaced or resized.
   */
  int (*check) (struct image *, struct error *e);

  /* Everything written so far is on stable storage when it returns. */
  int (*flush) (struct image *, struct error *e);

  /* Free the image and what it holds, its lock too. */
  void (*close) (struct image *);
};

/* What every kind of image starts with. */
struct image {
  const struct image_ops *ops;
  bool reads_zero;              /* where nothing has been written */
  struct image *beneath;        /* what this one passes writes on to later,
                                 * or NULL */
};

/* The image itself, behind whatever holds writes back. */
static inline struct image *
image_beneath (struct image *image)
{
  return image && image->beneath ? image->beneath : image;
}

/* Make a range read as zeroes which has not been written, or with nothing
 * but zeroes.  Costs nothing if the image was all zeroes when it was new.
 */
static inline int
image_zero (struct image *image, uint64_t offset, uint64_t count,
            struct error *e)
{
  return image->reads_zero ? 0 :
    image->ops->zero (image, offset, count, e);
}

/* Identity of a raw file, to tell whether it was replaced. */
struct image_id {
  uint64_t device;
  uint64_t inode;
};

/* Make a raw file of "size" bytes, all hole, at "path".  The file must
 * not exist, or be an empty regular file: data is never overwritten.  It
 * stays locked (OFD, the whole file) until the image is closed.
 * *created tells if the file was made here, and so is ours to unlink.
 * Returns NULL and sets the error on failure; nothing is left behind.
 */
extern struct image *image_raw_create (const char *path, uint64_t size,
                                       struct image_id *id, bool *created,
                                       struct error *e);

/* Make room for image_raw_create: remove a regular file that stands at
 * "path", unless some program has it locked or this process has it open.
 * Nothing there is success.  -1 with EBUSY or another error set.
 */
extern int image_raw_remove_old (const char *path, struct error *e);

/* Move the file with this id from one path to another, where nothing may
 * be.  -1 with the error set if that cannot be; then it is where it was.
 */
extern int image_raw_move (const char *from, const char *to,
                           const struct image_id *id, struct error *e);

/* The image is not needed any more: remove the file at "path" if it is
 * still the one with this id and size (an inode may be used again).
 */
extern void image_raw_discard (const char *path, const struct image_id *id,
                               uint64_t size);

/* Open the raw file that image_raw_create made.  It must still be the
 * same file (id) and size.  Returns NULL and sets the error on failure.
 */
extern struct image *image_raw_open (const char *path, uint64_t size,
                                     const struct image_id *id,
                                     struct error *e);

#endif /* CBW_IMAGE_H */
