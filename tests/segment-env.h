/* SPDX-License-Identifier: BSD-3-Clause */

/* For unit tests of what is in a segment: a directory of the test's own, a
 * segment that is served there, and its request list as a test wants it.
 */

#ifndef CBW_SEGMENT_ENV_H
#define CBW_SEGMENT_ENV_H

#include <stdint.h>

#include "segment/segment.h"
#include "segment/slots.h"

struct segment_env {
  char *dir;
  char *path;                   /* of the segment */
};
extern struct segment_env segment_env;

/* Make the directory; remove it, which must be empty. */
extern void segment_env_start (void);
extern void segment_env_end (void);

/* Serve a segment at segment_env.path: a new one, or what is there. */
extern void segment_env_serve (struct segment *s, uint64_t disk_size,
                               uint32_t cluster_size);

/* Begin to serve it, and let clients attach.  Threads that take slots must
 * not have been started before.
 */
extern void segment_env_publish (struct segment *s);

/* Put slot i into that state, by force. */
extern void slots_set (const struct cbw_map *m, unsigned i,
                       enum slot_state state, uint32_t owner);

/* How many slots are in that state, or have a state word that is not 0? */
extern unsigned slots_count (const struct cbw_map *m, enum slot_state state);
extern unsigned slots_used (const struct cbw_map *m);

#endif /* CBW_SEGMENT_ENV_H */
