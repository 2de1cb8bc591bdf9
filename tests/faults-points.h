/* SPDX-License-Identifier: BSD-3-Clause */

/* The trials of the faults test that are about points: checkpoints, and images
 * that are brought up to date.  faults-trial.c calls these for the others.
 */

#ifndef CBW_FAULTS_POINTS_H
#define CBW_FAULTS_POINTS_H

#include "faults-trial.h"

/* As trial_get_ready, trial_run and trial_check; nothing for trials of other
 * kinds.
 */
extern void faults_points_get_ready (struct trial *t);
extern void faults_points_run (struct trial *t);
extern void faults_points_check (struct trial *t, bool certain);

/* Compare all deltas, in any trial. */
extern void faults_points_compare (void);

/* The filter was killed just now: if the file of t->image says that it is the
 * whole image of a point, then it is.
 */
extern void faults_points_check_mark (const struct trial *t);

#endif /* CBW_FAULTS_POINTS_H */
