/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef CBW_PARSE_H
#define CBW_PARSE_H

#include <stdint.h>

#include "error.h"

/* Parse a number of seconds, 0 to 1e9, fractions allowed, into
 * nanoseconds.  0, or -1 with the error set (EINVAL).
 */
extern int parse_seconds (const char *text, uint64_t *ns, struct error *e);

#endif /* CBW_PARSE_H */
