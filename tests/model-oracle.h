/* SPDX-License-Identifier: BSD-3-Clause */

/* A model of both servers, for programs that compare them with it: a copy
 * of the disk, and one more for each snapshot.  One thread uses it.
 */

#ifndef CBW_MODEL_ORACLE_H
#define CBW_MODEL_ORACLE_H

#include "live-env.h"
#include "moment-oracle.h"
#include "request/client.h"

struct snap {
  char name[CBW_NAME_MAX];
  char target[CBW_TARGET_MAX];
  struct moment at;             /* what the disk was */
  struct nbd_handle *nbd;       /* NULL: not connected */
  struct client *owner;         /* NULL: it stays until dropped */
};

enum op { WRITE, ZERO, TRIM };

/* A change of the disk by the guest. */
struct change {
  enum op op;
  uint64_t offset, count;
  unsigned char *data;          /* what it makes of the range */
  int64_t cookie;
  bool acknowledged;
};

struct model {
  const char *dir;              /* disk.img, shm and targets are there */
  uint64_t size;
  struct server filter, plugin;
  struct nbd_handle *guest;
  struct client patient, impatient; /* with and without timeout */
  unsigned char *disk, *buf;    /* [size] */
  struct snap snaps[CBW_NR_SNAPSHOTS + 1]; /* one that is refused */
  unsigned nr_snaps;
  uint64_t next_name;
  uint64_t reads, creates, drops;
};

extern struct model model;

/* Start the servers; the disk is as it is.  Arguments dir= and size=. */
extern void model_start (char **argv);

/* Stop both in good order. */
extern void model_end (void);

extern const struct cbw_map *map (void);
extern void guest_connect (void);
extern void read_disk (void *buf, uint64_t count, uint64_t offset);

/* The change is made or, if it was not acknowledged, perhaps.  Frees it. */
extern void apply (struct change *c);

/* Compare a part of a snapshot, all of them and the disk, or extents. */
extern void compare (struct snap *s, uint64_t count, uint64_t offset);
extern void compare_all (void);
extern void compare_extents (struct snap *s, uint64_t count, uint64_t offset);

extern void snap_connect (struct snap *s);
extern void snap_disconnect (struct snap *s);

/* A part of a snapshot into model.buf. */
extern void snap_read (struct snap *s, uint64_t count, uint64_t offset);

/* One that may be made, with a name that was never used; then, that it
 * was, and that it is gone.
 */
extern struct snap *snap_new (void);
extern void snap_add (struct snap *s, const unsigned char *data);
extern void snap_remove (struct snap *s);
extern void owner_end (struct snap *s);

/* Is a snapshot with that name there? It must not be broken. */
extern bool is_listed (const char *name);
extern void check_dropped (const struct snap *s);

/* Drop all, in an order from the seed: nothing may be left of them. */
extern void drop_all (uint64_t *seed);

#endif /* CBW_MODEL_ORACLE_H */
