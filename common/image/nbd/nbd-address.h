/* SPDX-License-Identifier: BSD-3-Clause */

/* Where an NBD server is: a URI, or a command that is one. */

#ifndef CBW_NBD_ADDRESS_H
#define CBW_NBD_ADDRESS_H

#include "utils/error.h"

struct nbd_address {
  const char *uri;              /* or NULL */
  char *const *argv;
};

/* Fills in *address, to be freed, from what users write or from the words
 * of a command.  -1 with the error set if the string is no URI, and not
 * well-formed in brackets.
 */
extern int nbd_address_parse (struct nbd_address *address,
                              const char *target, struct error *e);
extern int nbd_address_argv (struct nbd_address *address,
                             char *const argv[], struct error *e);
extern void nbd_address_free (struct nbd_address *address);

#endif /* CBW_NBD_ADDRESS_H */
