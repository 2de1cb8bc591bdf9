/* SPDX-License-Identifier: BSD-3-Clause */

/* What the plugin has open of the chain of one generation, to read a snapshot
 * without asking the filter: the disk, the targets, and the bitmaps.
 */

#ifndef CBW_DIRECT_CHAIN_H
#define CBW_DIRECT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "request/client.h"
#include "utils/error.h"
#include "view/view.h"

struct direct_view;

/* It does not change while it is open. */
struct direct_chain {
  struct client *client;
  uint64_t generation;          /* even */
  uint32_t alive;               /* as the segment's header said */
  struct image *source;
  struct view_chain views;      /* the snapshot is views[0] */
  struct direct_view *members;  /* those of "views" */
};

/* Ask the filter for the chain of snapshot "id", and open all of it.  NULL
 * with the error set: EAGAIN if the chain is just changing, or ENOTSUP or
 * another errno if it cannot be read directly.
 */
extern struct direct_chain *direct_chain_open (struct client *client,
                                               uint64_t id, struct error *e);

extern void direct_chain_close (struct direct_chain *chain);

/* V6: is it still the chain of a server that is alive?  What the caller has
 * read before is then of that chain.
 */
extern bool direct_chain_is_current (const struct direct_chain *chain);

#endif /* CBW_DIRECT_CHAIN_H */
