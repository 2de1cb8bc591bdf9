/* SPDX-License-Identifier: BSD-3-Clause */

/* The terminal, or what stands in for it. */

#ifndef CBW_TERM_H
#define CBW_TERM_H

#include <stdbool.h>
#include <stdint.h>

/* Is stdout a terminal? */
extern bool term_is_tty (void);

/* Its size: of the terminal, else as the environment's COLUMNS and LINES
 * say, else 80 by 24.
 */
extern unsigned term_columns (void);
extern unsigned term_lines (void);

/* May colours be used, and characters beyond ASCII? */
extern bool term_colour (void);
extern bool term_utf8 (void);

/* A screen of our own to draw on, keys that come one by one and unseen,
 * and signals that end or stop us noted rather than obeyed.  If stdout is
 * no terminal, only the signals.
 */
extern void term_enter (void);
extern void term_leave (void);

/* Only the signals; stdout stays as it is. */
extern void term_catch_signals (void);

/* Wait; true if it is time to end: a signal came or q was typed.  It
 * returns early if the screen has to be drawn anew.
 */
extern bool term_wait (uint64_t ns);

/* Was one of those signals SIGHUP: has the terminal gone? */
extern bool term_hung_up (void);

#endif /* CBW_TERM_H */
