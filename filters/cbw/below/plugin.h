/* SPDX-License-Identifier: BSD-3-Clause */

/* What is known of the plugin below, whatever filters are between. */

#ifndef CBW_PLUGIN_H
#define CBW_PLUGIN_H

#include <stdbool.h>

/* Is it one of nbdkit's own that changes its disk in system calls, or memory,
 * of this process?  Then no change is under way any more when the process is
 * gone, or the call has returned.  False if nothing is known.
 */
extern bool plugin_is_local (void);

#endif /* CBW_PLUGIN_H */
