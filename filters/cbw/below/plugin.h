/* SPDX-License-Identifier: BSD-3-Clause */

/* What is known of the plugin below, and of the filters between. */

#ifndef CBW_PLUGIN_H
#define CBW_PLUGIN_H

#include <stdbool.h>

#include "utils/error.h"

/* Is it one of nbdkit's own that changes its disk in system calls, or memory,
 * of this process?  Then no change is under way any more when the process is
 * gone, or the call has returned.  Whatever filters are between.  False if
 * nothing is known.
 */
extern bool plugin_is_local (void);

/* Is it one of nbdkit's plugins whose disk is gone when the process is? */
extern bool plugin_forgets (void);

/* Is it such a plugin, and no filter between it and this one that could keep
 * changes to itself?  Then they stay when the process is gone.
 */
extern bool plugin_keeps_changes (void);

/* Is there a filter between that writes to the plugin when it is flushed?  Then
 * it must not be flushed through a context that is for reading.
 */
extern bool plugin_writes_at_flush (void);

/* Is it nbdkit's plugin of that name, with no filter between it and this one,
 * which nbdkit has loaded once?  0; or -1 with the error set, which says what
 * is not so.
 */
extern int plugin_is_next (const char *name, struct error *e);

#endif /* CBW_PLUGIN_H */
