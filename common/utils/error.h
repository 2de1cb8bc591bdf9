/* SPDX-License-Identifier: BSD-3-Clause */

/* Errors in common/ travel as a value: an errno for the program and a
 * message for the person.  Nothing in common/ prints; the caller in a
 * filter, plugin or tool decides where the message goes.
 */

#ifndef CBW_ERROR_H
#define CBW_ERROR_H

#define ERROR_MSG_MAX 1024

struct error {
  int num;                      /* an errno, never 0 once set */
  char msg[ERROR_MSG_MAX];      /* one line, no newline at the end */
};

/* Record an error: "num" (an errno) and a message which says what
 * happened, to what, and where it helps what to do.  Overlong messages
 * are cut.  Always returns -1, so that it can stand in a return.
 */
extern int error_set (struct error *e, int num, const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

/* The same with ": " and the text of errno "num" behind the message. */
extern int error_set_errno (struct error *e, int num, const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

#endif /* CBW_ERROR_H */
