/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups while the stress test's writers write: a thread begins one after
 * the other, and each is cancelled, or must become an image of the disk as it
 * was at its cut.  Then the image is filled with rubbish and removed.
 */

#ifndef CBW_STRESS_BACKUP_H
#define CBW_STRESS_BACKUP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "stress-oracle.h"

struct stress_backups {
  const char *segment;          /* images are made beside it */
  const char *snap;             /* URI of the plugin, for reading views */
  const struct model *model;
  uint64_t seed;
  bool (*go_on) (void);

  /* Each writer holds it for reading while a change is under way and "now"
   * of the model is not what the disk holds.
   */
  pthread_rwlock_t *change;

  uint64_t complete, cancelled; /* so far */
};

/* The thread; opaque is the struct.  It returns NULL when go_on says no, and
 * ends the program if something is wrong.
 */
extern void *stress_backups_run (void *opaque);

#endif /* CBW_STRESS_BACKUP_H */
