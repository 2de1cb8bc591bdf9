/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef CBW_PARSE_H
#define CBW_PARSE_H

#include <stdint.h>

#include "utils/error.h"

#define SECONDS_MAX 1000000000  /* fits 64 bits in nanoseconds */

/* Parse a number of seconds, 0 to SECONDS_MAX, fractions allowed, into
 * nanoseconds.  0, or -1 with the error set (EINVAL).
 */
extern int parse_seconds (const char *text, uint64_t *ns, struct error *e);

/* Parse a number of bytes: decimal, or hexadecimal with 0x, with a suffix
 * k, M, G or T perhaps.  Skips spaces before it.  Returns where it ends, or
 * NULL if there is none that fits.
 */
extern const char *parse_size (const char *text, uint64_t *size);

#endif /* CBW_PARSE_H */
