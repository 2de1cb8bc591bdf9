/* SPDX-License-Identifier: BSD-3-Clause */

/* The step of the model test that does several things at once. */

#ifndef CBW_MODEL_BURST_H
#define CBW_MODEL_BURST_H

#include <stdbool.h>

/* The guest changes several parts of the disk, and perhaps a snapshot or a
 * backup is made or ended meanwhile.  With "end_filter" the filter is killed
 * or stopped in the middle of that, and started again: then the model adopts
 * what has happened and what has not.
 */
extern void step_burst (bool end_filter);

#endif /* CBW_MODEL_BURST_H */
