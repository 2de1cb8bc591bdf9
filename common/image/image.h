/* SPDX-License-Identifier: BSD-3-Clause */

/* An image: where the data of a cluster is.  That is the target of a snapshot
 * or of a backup, a store before such a target, or the protected disk itself.
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

#include "utils/error.h"

struct image;

/* What is known of a range: the bits of NBD's base:allocation. */
#define IMAGE_HOLE 1u
#define IMAGE_ZERO 2u

struct image_extent {
  uint64_t offset, length;      /* bytes */
  uint32_t type;                /* IMAGE_HOLE, IMAGE_ZERO */
};

/* The disk has the first three, and flush; all else has all but extents, and
 * perhaps verify.
 */
struct image_ops {
  /* Read (pwrite: write) count bytes at offset, all of them or failure.
   * What was read counts only if image_verify succeeds after it.
   */
  int (*pread) (struct image *, void *buf, size_t count, uint64_t offset,
                struct error *e);

  /* Of what kind is the data at offset, and where does it end?  Sets
   * *data to false if the bytes [offset, *next) surely read as zeroes, and
   * to true if they may be data.  offset < *next <= end.  The answer counts
   * only if image_verify succeeds after it.
   */
  int (*extent) (struct image *, uint64_t offset, uint64_t end,
                 uint64_t *next, bool *data, struct error *e);

  /* Many extents at once; NULL if there is no better way than extent.  Call
   * image_extents.
   */
  int (*extents) (struct image *, uint64_t offset, uint64_t end,
                  uint64_t limit, struct image_extent *x, size_t max,
                  size_t *nr, struct error *e);

  /* Is what the caller has read, or been told of extents, what was written
   * to the image?  NULL: that is known already.  Call image_verify.
   */
  int (*verify) (struct image *, struct error *e);

  int (*pwrite) (struct image *, const void *buf, size_t count,
                 uint64_t offset, struct error *e);

  /* Make count bytes at offset read as zeroes.  Call image_zero. */
  int (*zero) (struct image *, uint64_t offset, uint64_t count,
               struct error *e);

  /* Give the space of [offset, offset+count) back, where the file system
   * can: the bytes are not needed any more, and undefined afterwards.
   */
  int (*punch) (struct image *, uint64_t offset, uint64_t count,
                struct error *e);

  /* Is the image still where and what it was when it was opened, and all
   * that was written to it, for all that is known?  -1 with ESTALE or another
   * error if it was removed, replaced, resized, or could not be written back.
   */
  int (*check) (struct image *, struct error *e);

  /* Everything written so far is on stable storage when it returns.  When it
   * has failed, the image is lost: so do all later calls.
   */
  int (*flush) (struct image *, struct error *e);

  /* Free the image and what it holds, its lock too. */
  void (*close) (struct image *);
};

/* What every kind of image starts with. */
struct image {
  const struct image_ops *ops;
  bool reads_zero;              /* where nothing has been written */
  uint32_t skip;                /* bytes; a gap of so many between what is to be
                                 * read costs more than another read.  0: one
                                 * read is best */
};

/* Once after the reads of one request, however many they were.  0, or -1
 * with the error set: what was read is of no use.
 */
static inline int
image_verify (struct image *image, struct error *e)
{
  return image->ops->verify ? image->ops->verify (image, e) : 0;
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

/* The extents from offset on: at least one, at most "max", and no more than
 * reach to "end"; but the last may be longer, up to "limit".  One follows the
 * other.  0, and *nr is their number; or -1 with the error set.
 */
extern int image_extents (struct image *image, uint64_t offset, uint64_t end,
                          uint64_t limit, struct image_extent *x, size_t max,
                          size_t *nr, struct error *e);

/* An image that could not be opened, for good: every operation fails with
 * EIO and this message, but check, as nothing new can be found out.  NULL if
 * there is no memory.
 */
extern struct image *image_missing_new (const char *message);

/* Is it one of those? */
extern bool image_is_missing (const struct image *image);

/* Identity of a raw file, to tell whether it was replaced. */
struct image_id {
  uint64_t device;
  uint64_t inode;
};

/* A raw file is a target only if this program may have made it: its path
 * leads to it without a symbolic link at the end, it is regular, belongs to
 * the effective user, has one name, and no other user has any rights.
 *
 * Nothing is removed or replaced that another program, or this one, has
 * open: the kernel is asked for a lease, which a file system may not know of
 * (NFS does not).  Then nothing is removed.  What is known by its id to be a
 * target may be open for reading.
 */

/* Make a raw file of "size" bytes, all hole, at "path".  The file must
 * not exist, or be an empty one as described above: data is never
 * overwritten.  It stays locked (OFD, the whole file) until the image is
 * closed.  *created tells if the file was made here, and so is ours to
 * unlink.  Returns NULL and sets the error on failure; nothing is left
 * behind.
 */
extern struct image *image_raw_create (const char *path, uint64_t size,
                                       struct image_id *id, bool *created,
                                       struct error *e);

enum image_raw_opened {
  IMAGE_RAW_OPENED,
  IMAGE_RAW_LOST,               /* another file, or none, and for good */
  IMAGE_RAW_NOT_NOW,            /* it may be there: something has to be done */
};

/* Open the raw file that image_raw_create made.  It must still be the
 * same file (id) and size.  *image is NULL, and the error set, if it is not
 * opened.  LOST is proved: the path leads to another file of the same file
 * system, the size is another, no file is there though its directory is, on
 * the file system where it was; or a write-back error is reported.  All else
 * is NOT_NOW.  Others may have it open, but not for writing.
 */
extern enum image_raw_opened image_raw_open (const char *path, uint64_t size,
                                             const struct image_id *id,
                                             struct image **image,
                                             struct error *e);

/* Files that another process writes, opened for reading only. */
enum image_reader_kind {
  IMAGE_READER_SOURCE,          /* the disk; extents are kept, see below */
  IMAGE_READER_TARGET,          /* a target: reads are verified */
};

/* The image of the file open at fd, which is taken over if that succeeds; it
 * has three operations, and verify if it is a target.  "path" is for messages.
 * NULL with ENOTSUP set if the file's system is not one on which all processes
 * of a host see one content, or if it is neither a regular file nor a block
 * device.
 *
 * What the source's extents are is kept: the caller asks only about what does
 * not change while the image is open.
 */
extern struct image *image_reader_open (int *fd, const char *path,
                                        uint64_t size,
                                        enum image_reader_kind kind,
                                        struct error *e);

/* The functions below return 0, or -1 with the error set. */

/* Make room for image_raw_create: remove the file at "path".  Nothing there
 * is success.
 */
extern int image_raw_remove_old (const char *path, struct error *e);

/* Could a file at "path" be replaced?  EEXIST if it holds data, and
 * "replace" is false.  Nothing there is success.
 */
extern int image_raw_check_old (const char *path, bool replace,
                                struct error *e);

/* Remove what image_raw_create has made at "path", of which nothing else is
 * known: a file without a single block, that is empty or of this size.
 */
extern int image_raw_remove_unused (const char *path, uint64_t size,
                                    struct error *e);

/* Remove the file at "path" if it is the one with this id and size, and nobody
 * has it open for writing.
 */
extern int image_raw_remove (const char *path, uint64_t size,
                             const struct image_id *id, struct error *e);

/* Is the image itself a raw file?  The functions below take no other. */
extern bool image_is_raw (const struct image *image);

/* The image's open file, for others who want to open it too; *path is its
 * name, which is valid until the image is closed.
 */
extern int image_raw_fd (const struct image *image, const char **path);

/* Could another process read the image's file, too (image_reader_open)?  Asks
 * nobody, so that a file system which hangs does not matter.
 */
extern bool image_raw_is_coherent (const struct image *image);

/* Is this the name of the image's file? */
extern bool image_raw_is_at (const struct image *image, const char *path);

/* No thread uses the image any more: remove its file.  Others that have it open
 * find it empty, so that its space is free.
 */
extern int image_raw_discard (struct image *image, struct error *e);

/* Rename the image's file; nothing may be at "to".  On failure it is where
 * it was.
 */
extern int image_raw_move (struct image *image, const char *to,
                           struct error *e);

/* Rename the image's file, which has been flushed, to "to", as that is to
 * be found after a crash.  A file there is replaced in that step, if it is
 * empty or "replace" is true.  If the error is about the rename, both files
 * are what they were.
 */
extern int image_raw_publish (struct image *image, const char *to,
                              bool replace, struct error *e);

/* What a file says of itself, in an extended attribute: it is the image of the
 * disk at a point (docs/correctness.md, section 28).
 */
struct image_mark {
  enum {
    IMAGE_MARK_NONE,            /* nothing, or what is not true any more */
    IMAGE_MARK_WHOLE,           /* it is the image of that point */
    IMAGE_MARK_ON_ITS_WAY,      /* it has been, and is being brought up to
                                 * date */
  } kind;
  uint8_t uuid[16];             /* of the point */
};

/* Read the mark of the file at "path".  No file, or one without a mark, or one
 * that was changed since, is IMAGE_MARK_NONE.
 */
extern int image_raw_read_mark (const char *path, struct image_mark *mark,
                                struct error *e);

/* Mark the image's file, on stable storage.  A whole one has been flushed. */
extern int image_raw_mark (struct image *image, const struct image_mark *mark,
                           struct error *e);

/* Open a file that is to be brought up to date.  It becomes "size" bytes long,
 * and is marked as on its way from the point with the uuid, on stable storage.
 * It must be one that this program may have made, and stays locked.  NULL with
 * the error set; the file may have its new mark by then.
 */
extern struct image *image_raw_update (const char *path, uint64_t size,
                                       const uint8_t uuid[16],
                                       struct image_id *id, struct error *e);

/* The names in the directory of "path" are on stable storage. */
extern int image_raw_sync_directory (const char *path, struct error *e);

#endif /* CBW_IMAGE_H */
