/* SPDX-License-Identifier: BSD-3-Clause */

/* Parsing and copying the address of an NBD server (nbd-address.h).  An
 * NBD image (nbd.c) is made from one, and its keeper owns the copy.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/nbd/nbd-address.h"
#include "image/nbd/nbd.h"
#include "utils/cleanup.h"

int
nbd_address_argv (struct nbd_address *address, char *const argv[],
                  struct error *e)
{
  size_t n, i, len = 0;
  char **copy, *text;

  for (n = 0; argv[n]; ++n)
    len += strlen (argv[n]) + 1;
  copy = malloc ((n + 1) * sizeof *copy + len);
  if (copy == NULL)
    return error_set_errno (e, ENOMEM, "%s", argv[0]);
  text = (char *) (copy + n + 1);
  for (i = 0; i < n; ++i) {
    copy[i] = text;
    text = stpcpy (text, argv[i]) + 1;
  }
  copy[n] = NULL;
  *address = (struct nbd_address) { .argv = copy };
  return 0;
}

int
nbd_address_parse (struct nbd_address *address, const char *target,
                   struct error *e)
{
  CLEANUP_FREE char *text = strdup (target);
  CLEANUP_FREE char **argv = calloc (strlen (target) / 2 + 2, sizeof *argv);
  char *word, *save = NULL;
  size_t n = 0;

  if (text == NULL || argv == NULL)
    return error_set_errno (e, ENOMEM, "%s", target);
  if (!image_nbd_is_command (target)) {
    *address = (struct nbd_address) { .uri = text };
    text = NULL;
    return 0;
  }
  for (word = strtok_r (text + 1, " \t", &save); word;
       word = strtok_r (NULL, " \t", &save))
    argv[n++] = word;
  if (n < 2 || strcmp (argv[n - 1], "]") != 0)
    return error_set (e, EINVAL, "%s: must be a command in brackets, with "
                      "blanks around it: [ COMMAND ARG... ]", target);
  argv[n - 1] = NULL;
  return nbd_address_argv (address, argv, e);
}

void
nbd_address_free (struct nbd_address *address)
{
  free ((char *) address->uri);
  free ((char **) address->argv);
}
