/* SPDX-License-Identifier: BSD-3-Clause */

/* For unit tests of NBD images: a socket in a directory of the test's own,
 * nbdkit as a server behind it, and images that are opened there.  The
 * server may be one of fake-nbd.h instead.
 */

#ifndef CBW_NBD_ENV_H
#define CBW_NBD_ENV_H

#include <sys/types.h>

#include "image/nbd/nbd.h"

struct nbd_env {
  char *dir;
  char *path;                   /* of the socket */
  char *uri;                    /* of an export behind it */
};
extern struct nbd_env nbd_env;

/* Make the directory; remove it, which must be empty. */
extern void nbd_env_start (void);
extern void nbd_env_end (void);

/* Start nbdkit with a plugin and its argument at nbd_env.path, without
 * waiting; send it the signal and wait until it has ended.
 */
extern pid_t nbd_env_serve (const char *plugin, const char *what);
extern void nbd_env_kill (pid_t pid, int sig);

/* Open the image at nbd_env.uri; it must succeed. */
extern struct image *nbd_env_open (unsigned flags);

/* The same, while the server may just be starting. */
extern struct image *nbd_env_open_soon (void);

/* Wait until the image can be read, as its server is coming back. */
extern void nbd_env_await (struct image *image);

#endif /* CBW_NBD_ENV_H */
