/* SPDX-License-Identifier: BSD-3-Clause */

/* How long a guest's thread may wait, and the end of the server for it. */

#ifndef CBW_PATIENCE_H
#define CBW_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* Sleep for so long, in a guest's thread.  False if meanwhile the server ends
 * or the guest is gone: then it was shorter.
 */
extern bool patience_sleep (uint64_t ns);

/* How long the server waits for what is stuck when it stops, all in all. */
extern uint64_t patience_at_stop_ns (void);

#endif /* CBW_PATIENCE_H */
