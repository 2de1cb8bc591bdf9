/* SPDX-License-Identifier: BSD-3-Clause */

/* For unit tests of raw files: the path of a target in a directory of the
 * test's own.
 */

#ifndef CBW_RAW_ENV_H
#define CBW_RAW_ENV_H

#include "image/raw/raw.h"

/* The size of a target: its last cluster is not whole. */
#define RAW_SIZE (10 * 65536 + 123)

struct raw_env {
  char *dir;
  char *path;                   /* of the target */
};
extern struct raw_env raw_env;

/* Make the directory; remove it, which must be empty. */
extern void raw_env_start (void);
extern void raw_env_end (void);

/* Make a target of RAW_SIZE bytes at raw_env.path, where nothing is. */
extern struct image *raw_env_create (struct image_id *id);

/* Open it there, if it is that file: see image_raw_open. */
extern enum image_raw_opened raw_env_open (const struct image_id *id,
                                           struct image **image,
                                           struct error *e);

/* Write the text to the file at raw_env.path, which holds nothing else. */
extern void raw_env_write (const char *text);

#endif /* CBW_RAW_ENV_H */
