/* SPDX-License-Identifier: BSD-3-Clause */

/* The command line of a qemu-nbd that serves one internal snapshot.  Names are
 * quoted for QEMU's option syntax, where a comma is written twice.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/nbd/nbd.h"
#include "qcow2-nbd.h"
#include "utils/cleanup.h"

#define QEMU_NBD "qemu-nbd"

bool
qcow2_nbd_installed (void)
{
  const char *dir = getenv ("PATH"), *end;
  char file[4096];

  for (; dir; dir = *end ? end + 1 : NULL) {
    end = strchrnul (dir, ':');
    if (snprintf (file, sizeof file, "%.*s/" QEMU_NBD, (int) (end - dir), dir)
        < (int) sizeof file && access (file, X_OK) == 0)
      return true;
  }
  return false;
}

/* Append text to where "to" points; in QEMU's option strings a comma is
 * doubled.  Returns the end.
 */
static char *
add_quoted (char *to, const char *text)
{
  for (; *text; ++text) {
    if (*text == ',')
      *to++ = ',';
    *to++ = *text;
  }
  *to = '\0';
  return to;
}

/* "before" and the quoted text, "between" and the other, on the heap. */
static char *
make_options (const char *before, const char *text, const char *between,
              const char *other)
{
  char *options = malloc (strlen (before) + 2 * strlen (text) +
                          strlen (between) + 2 * strlen (other) + 1);

  if (options)
    add_quoted (stpcpy (add_quoted (stpcpy (options, before), text), between),
                other);
  return options;
}

struct image *
qcow2_nbd_start (const char *path, const struct qcow2_snapshot *s,
                 uint64_t *size, struct error *e)
{
  CLEANUP_FREE char *image = NULL, *snapshot = NULL;
  struct stat st;

  /* force-share, which backing files inherit: no locks, as the image may
   * be in use by a writer.
   */
  image = make_options (stat (path, &st) == 0 && S_ISBLK (st.st_mode) ?
                        "driver=qcow2,force-share=on,"
                        "file.driver=host_device,file.filename=" :
                        "driver=qcow2,force-share=on,"
                        "file.driver=file,file.filename=", path, "", "");
  snapshot = make_options ("snapshot.id=", s->id, ",snapshot.name=",
                           s->name);
  if (image == NULL || snapshot == NULL) {
    error_set_errno (e, ENOMEM, QEMU_NBD);
    return NULL;
  }
  /* Not persistent: should we be killed, it ends with our connections. */
  return image_nbd_spawn ((char *[]) {
      (char *) QEMU_NBD, (char *) "--read-only", (char *) "--shared=16",
      (char *) "--load-snapshot", snapshot,
      (char *) "--image-opts", image, NULL
    }, IMAGE_NBD_READONLY | IMAGE_NBD_ONCE, size, e);
}
