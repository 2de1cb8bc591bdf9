/* SPDX-License-Identifier: BSD-3-Clause */

/* Values as people and as JSON readers want them.
 *
 * Text from the segment or the file system may hold anything.  For a
 * terminal it loses its control characters, for JSON what is not UTF-8.
 *
 * The functions that take a buffer return it.
 */

#ifndef CBW_FORMAT_H
#define CBW_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "segment/layout.h"

#define FORMAT_MAX 64           /* is enough for every buffer but text's */
#define FORMAT_TEXT_MAX 4096    /* and this for any text of a segment */

/* "64 KiB", "1.5 GiB" */
extern const char *format_size (uint64_t bytes, char buf[FORMAT_MAX]);

/* "12 s", "2 h 3 min" */
extern const char *format_duration (uint64_t ns, char buf[FORMAT_MAX]);

/* Of a short time: "210 us", "1.5 ms" */
extern const char *format_moment (uint64_t ns, char buf[FORMAT_MAX]);

/* Local date and time. */
extern const char *format_date (uint64_t ns, char buf[FORMAT_MAX]);

/* part of whole: "12.3 %" */
extern const char *format_percent (uint64_t part, uint64_t whole,
                                   char buf[FORMAT_MAX]);

/* Add to the object whether a backup is a full one ("mode"), since when
 * ("since"), how much that is ("changed-bytes"), and why it is a full one though
 * the server could choose ("reason").
 */
extern void json_increment (struct json_object *o,
                            const struct cbw_increment *i);

/* The text, safe to print. */
extern const char *format_text (const char *text, char buf[FORMAT_TEXT_MAX]);

/* The same, as a JSON string. */
extern struct json_object *json_text (const char *text);

/* Print as a document of many lines, or in one line. */
extern void json_print (struct json_object *object);
extern void json_print_line (struct json_object *object);

#endif /* CBW_FORMAT_H */
