/* SPDX-License-Identifier: BSD-3-Clause */

/* A raw file as target, for the files that share it:
 *
 *   raw.c         reads and writes it, and looks for lost write-back
 *   raw-file.c    makes and opens it
 *   raw-rename.c  renames, replaces and removes it
 *   raw-update.c  opens one that holds an older image; what a file says it is
 *   raw-reader.c  opens one that another process writes
 */

#ifndef CBW_RAW_H
#define CBW_RAW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "image/image.h"

/* A name of the file.  Earlier ones are kept until the image is closed, as
 * a thread may be about to put one into a message.
 */
struct raw_name {
  struct raw_name *earlier;
  char path[];
};

struct raw_image {
  struct image image;
  int fd;
  uint64_t size;                /* bytes */
  bool coherent;                /* as raw_is_coherent said */

  /* Another open file of the same inode, for fdatasync.  Each open file is
   * told of a write-back error once, by fdatasync or by raw_look_for_loss;
   * so the thread that is told must be able to note it before another asks.
   * fdatasync takes too long to hold loss_lock.
   */
  int flush_fd;

  /* Threads that write, or wait until the kernel lets them.  There is no
   * lock around writes: where the kernel writes one at a time it has a lock of
   * its own, and a second one in front of it only makes the slowest slower.
   */
  _Atomic (unsigned) writers;

  /* Held while the name changes, and while it is compared with the file. */
  pthread_mutex_t name_lock;
  _Atomic (struct raw_name *) name;

  /* The first write-back error, for good.  Held while the kernel is asked
   * (nothing in there waits for I/O); "lost" is read without it.
   */
  pthread_mutex_t loss_lock;
  _Atomic (bool) lost;
  struct error loss;            /* fixed before "lost" */
};

extern const struct image_ops raw_ops;

/* Fill *raw, which is zeroes, for a file of that name; nothing is open yet.
 * 0, or -1 if there is no memory.
 */
extern int raw_image_init (struct raw_image *raw, const char *path,
                           uint64_t size);

/* The image of a file that was opened twice, both taken over if it
 * succeeds.  NULL with the error set.
 */
extern struct raw_image *raw_image_new (int *fd, int *flush_fd,
                                        const char *path, uint64_t size,
                                        struct error *e);

extern void raw_close (struct image *image);

/* Is the file on a file system on which a page of a file is in memory once, and
 * a read after a write, in whatever process, returns what was written?
 */
extern bool raw_is_coherent (int fd);

/* Open the path once more; it must still be the file of *st. */
extern int raw_open_again (const char *path, int mode, const struct stat *st,
                           struct error *e);

/* Check that an open file is one that this program may have made, and that
 * nobody else uses it; and lock it, while it is open.  *st is of it.
 */
extern int raw_claim (int fd, const char *path, const struct stat *st,
                      struct error *e);

/* Operations of raw_ops; see image.h. */
extern int raw_pread (struct image *image, void *buf, size_t count,
                      uint64_t offset, struct error *e);
extern int raw_extent (struct image *image, uint64_t offset, uint64_t end,
                       uint64_t *next, bool *data, struct error *e);
extern int raw_verify (struct image *image, struct error *e);
extern int raw_zero (struct image *image, uint64_t offset, uint64_t count,
                     struct error *e);

/* Does the file have data at offset, and up to where is that so?  UINT64_MAX:
 * up to its end, or that is not known.
 */
extern int raw_seek (const struct raw_image *raw, uint64_t offset,
                     uint64_t *next, bool *data, struct error *e);

/* The file's present name, for messages: valid until the image is closed. */
static inline const char *
raw_path (const struct raw_image *raw)
{
  return atomic_load ((_Atomic (struct raw_name *) *) &raw->name)->path;
}

/* The file has this name now; name_lock is held. */
extern void raw_set_name (struct raw_image *raw, struct raw_name *name);
extern struct raw_name *raw_name_new (const char *path);

/* Did the kernel fail to write back anything that was written to the file?
 * -1 with that error, the first time and ever after.  Waits for no I/O.
 */
extern int raw_look_for_loss (struct raw_image *raw, struct error *e);

/* Is it a file that this program may have made: regular and of this user;
 * with one name; and closed to other users?  -1 with the error set.
 */
extern int raw_check_owner (const struct stat *st, const char *path,
                            struct error *e);
extern int raw_check_names (const struct stat *st, const char *path,
                            struct error *e);
extern int raw_check_private (const struct stat *st, const char *path,
                              struct error *e);

/* Is the file open anywhere but in fd?  The kernel is asked for a lease,
 * which it gives only if not.  While fd is open, or until raw_release, others
 * who open it wait.  0; or -1 with EBUSY set, or with the reason why the file
 * system cannot tell.
 */
typedef int raw_lease_function (int fd, const char *path, struct error *e);

extern raw_lease_function raw_lease;

/* Is it open for writing anywhere?  The same, but others may read it.  fd is
 * open for reading only.
 */
extern raw_lease_function raw_lease_reading;

/* Before that nobody may open it for writing, this thread neither. */
extern void raw_release (int fd);

#endif /* CBW_RAW_H */
