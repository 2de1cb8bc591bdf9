/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests that change which snapshots there are, or control a backup.
 *
 * Each blocks until the filter has answered, and returns 0 or -1 with the
 * error set, whose message is the filter's own.
 */

#ifndef CBW_CONTROL_H
#define CBW_CONTROL_H

#include <stdint.h>

#include "request/client.h"
#include "utils/error.h"

/* A snapshot to be made. */
struct control_snapshot {
  const char *name;
  const char *target;           /* where old data goes: absolute path, or
                                 * NBD server */
  const char *access;           /* access file: absolute path, or NULL */
  struct cbw_options options;   /* with "backup", it is one */
  uint64_t speed;               /* of a backup: bytes/s; 0: any */
  uint32_t flags;               /* CBW_CREATE_* */
  uint64_t since;               /* with CBW_CREATE_SINCE: see struct
                                 * cbw_control */
  uint64_t hold_ns;             /* how long guests may be held; 0: the
                                 * server's default */
};

/* Take a snapshot.  *held_ns is how long guests' writes were held. */
extern int control_create (struct client *c,
                           const struct control_snapshot *s,
                           uint64_t *held_ns, struct error *e);

/* Make a checkpoint: a moment from which changes can be told later.  hold_ns
 * as in struct control_snapshot; *held_ns is how long guests' writes were
 * held.
 */
extern int control_checkpoint (struct client *c, const char *name,
                               uint64_t hold_ns, uint64_t *held_ns,
                               struct error *e);

/* Drop the snapshot called "name", or if there is none the checkpoint; hold_ns
 * as in struct control_snapshot.  With CBW_DROP_KEEP_POINT in "flags" of a
 * snapshot a checkpoint is left.
 */
extern int control_drop (struct client *c, const char *name, uint32_t flags,
                         uint64_t hold_ns, struct error *e);

/* Drop snapshot or checkpoint "id": surely not another one that got its name
 * meanwhile.
 */
extern int control_drop_id (struct client *c, uint64_t id, uint32_t flags,
                            uint64_t hold_ns, struct error *e);

/* Pause or resume the backup "id", or set its speed (bytes/s, 0: any). */
extern int control_job (struct client *c, uint64_t id,
                        enum cbw_job_action action, uint64_t speed,
                        struct error *e);

/* Where old data of snapshot "name" goes unless told otherwise: NAME.cow
 * beside the segment, if that is in a directory on a disk where only we, or
 * root, can make files; else SEGMENT-NAME.cow in the directory
 * /var/tmp/nbdkit-cbw-UID, which is made, with mode 0700, if it is not
 * there.  A name that others can guess is so never used where others can
 * make a file of that name first.  Returns a malloc'd absolute path, or NULL
 * with the error set: EPERM if that directory is not ours alone.
 */
extern char *control_default_target (const struct segment *s,
                                     const char *name, struct error *e);

#endif /* CBW_CONTROL_H */
