/* SPDX-License-Identifier: BSD-3-Clause */

/* Ask a server how a snapshot can be read without asking, and print the reply:
 *
 *   direct-ask SEGMENT SNAPSHOT
 *
 *   generation N
 *   pid N
 *   source KIND FD DEVICE INODE RDEV PATH
 *   view NAME SIZE KIND DEVICE INODE RDEV PATH     one or more
 *
 * or "error" and what the errno means.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request/client.h"
#include "request/request.h"
#include "segment/entry.h"
#include "utils/clock.h"

/* How long a server may take to begin. */
#define PATIENCE (30 * NS_PER_SEC)

static void
print_view (const struct cbw_map *m, const struct cbw_direct_view *v)
{
  const struct cbw_direct_file *f = &v->target;
  struct cbw_snapshot copy;

  if (v->index >= CBW_NR_SNAPSHOTS || !entry_copy (m, v->index, &copy) ||
      copy.id != v->id) {
    fprintf (stderr, "direct-ask: entry %" PRIu32 " is not snapshot %" PRIu64
             "\n", v->index, v->id);
    exit (EXIT_FAILURE);
  }
  printf ("view %s %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64
          " %s\n", copy.name, v->size, f->kind, f->device, f->inode, f->rdev,
          f->path);
}

int
main (int argc, char *argv[])
{
  static struct client client;
  static struct cbw_direct direct;
  const struct cbw_direct_file *f = &direct.source;
  struct snapshot_info info;
  struct error e;
  uint32_t i;
  int r;

  if (argc != 3 ||
      client_attach (&client, argv[1], "direct-ask", false, PATIENCE,
                     &e) == -1 ||
      !entry_find (&client.segment.map, argv[2], &info)) {
    fprintf (stderr, "direct-ask: no such server or snapshot\n");
    return EXIT_FAILURE;
  }
  r = request_direct (&client, info.id, &direct);
  if (r != 0)
    printf ("error %s\n", strerror (r));
  else {
    printf ("generation %" PRIu64 "\npid %" PRIu32 "\n", direct.generation,
            direct.pid);
    printf ("source %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64
            " %s\n", f->kind, f->fd, f->device, f->inode, f->rdev, f->path);
    for (i = 0; i < direct.nr_views; ++i)
      print_view (&client.segment.map, &direct.views[i]);
  }
  client_detach (&client);
  return EXIT_SUCCESS;
}
