/* SPDX-License-Identifier: BSD-3-Clause */

/* What the stress test's threads do: change the disk, and compare the
 * snapshot with what it must be.
 */

#ifndef CBW_STRESS_WORK_H
#define CBW_STRESS_WORK_H

#include <stdbool.h>

/* Have threads still something to do? */
extern bool stress_continues (void);

/* Threads; opaque is a struct peer with its first four fields set.  They
 * return NULL when stress_continues says no.
 */
extern void *stress_writer (void *opaque);
extern void *stress_reader (void *opaque);

/* Compare all of the export, whose name in messages is "what", with what the
 * disk was ("old") or with what it is.
 */
extern void stress_compare_all (const char *uri, const char *what, bool old);

#endif /* CBW_STRESS_WORK_H */
