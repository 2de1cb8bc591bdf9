/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups that bring an older image up to date: which image it is, and what of
 * it need not be written.  docs/correctness.md, section 28.
 */

#ifndef CBW_INCREMENT_H
#define CBW_INCREMENT_H

#include <stdbool.h>

#include "guest/engine.h"
#include "lifecycle/lifecycle.h"
#include "utils/error.h"

/* A backup is asked for with CBW_CREATE_SINCE: from which point on?  Fills
 * fixed->increment; "since" is 0 if it has to be a full one, and "reason" says
 * why.  0, or -1 with the error set if it cannot be what was asked for.
 */
extern int increment_choose (struct engine *engine,
                             const struct create_params *p,
                             struct cbw_snapshot *fixed, struct error *e);

/* Make the backup's target, or open the one that is to be brought up to date;
 * as target_make.
 */
extern int increment_target (const struct create_params *p,
                             struct snapshot *snap, bool *created,
                             struct error *e);

/* Y3: the backup is live.  What has not changed is in its image already.  Of an
 * export some of that is compared first, unless the user is sure ("force").  If
 * the server was to choose nothing is taken as it is: the fill compares all of
 * it.  0, or -1 with the error set: then the backup is of no use.  Success if
 * it is a full one, or this was done before.
 */
extern int increment_begin (struct engine *engine, struct snapshot *snap,
                            bool force, struct error *e);

/* At a takeover: Y3 of those whose server died before it.  One that cannot
 * begin is broken.
 */
extern void increment_resume (struct engine *engine);

#endif /* CBW_INCREMENT_H */
