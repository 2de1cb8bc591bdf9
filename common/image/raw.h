/* SPDX-License-Identifier: BSD-3-Clause */

/* A raw file as target, for raw.c, which reads and writes it, and
 * raw-file.c, which makes, opens and removes it.
 */

#ifndef CBW_RAW_H
#define CBW_RAW_H

#include <pthread.h>
#include <stdint.h>

#include "image.h"

struct raw_image {
  struct image image;
  int fd;
  char *path;
  uint64_t size;                /* bytes */

  /* Held around writes.  The kernel lets one buffered write at a time into
   * a file anyway, but has the others spin meanwhile: a sleeping lock
   * leaves the CPU to those who read, which measured up to five times
   * faster with many writers on few cores.
   */
  pthread_mutex_t write_lock;
};

extern const struct image_ops raw_ops;

extern void raw_close (struct image *image);

#endif /* CBW_RAW_H */
