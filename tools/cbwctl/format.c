/* SPDX-License-Identifier: BSD-3-Clause */

/* Values as text, for everything that cbwctl prints. */

#include <config.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "format.h"
#include "utils/clock.h"
#include "utils/utf8.h"

const char *
format_size (uint64_t bytes, char buf[FORMAT_MAX])
{
  static const char *const units[] = {
    "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"
  };
  double v = (double) bytes;
  unsigned u = 0;

  while (v >= 1024) {
    v /= 1024;
    u++;
  }
  snprintf (buf, FORMAT_MAX, v < 10 && v != (double) (unsigned) v ?
            "%.1f %s" : "%.0f %s", v, units[u]);
  return buf;
}

const char *
format_duration (uint64_t ns, char buf[FORMAT_MAX])
{
  const uint64_t s = ns / NS_PER_SEC;

  if (s < 60)
    snprintf (buf, FORMAT_MAX, "%" PRIu64 " s", s);
  else if (s < 3600)
    snprintf (buf, FORMAT_MAX, "%" PRIu64 " min %" PRIu64 " s", s / 60,
              s % 60);
  else if (s < 24 * 3600)
    snprintf (buf, FORMAT_MAX, "%" PRIu64 " h %" PRIu64 " min", s / 3600,
              s % 3600 / 60);
  else
    snprintf (buf, FORMAT_MAX, "%" PRIu64 " d %" PRIu64 " h", s / 86400,
              s % 86400 / 3600);
  return buf;
}

const char *
format_moment (uint64_t ns, char buf[FORMAT_MAX])
{
  if (ns < NS_PER_MS)
    snprintf (buf, FORMAT_MAX, "%.0f us", (double) ns / 1e3);
  else if (ns < NS_PER_SEC)
    snprintf (buf, FORMAT_MAX, "%.1f ms", (double) ns / 1e6);
  else
    snprintf (buf, FORMAT_MAX, "%.1f s", (double) ns / 1e9);
  return buf;
}

const char *
format_date (uint64_t ns, char buf[FORMAT_MAX])
{
  const time_t t = (time_t) (ns / NS_PER_SEC);
  struct tm tm;

  if (localtime_r (&t, &tm) == NULL ||
      strftime (buf, FORMAT_MAX, "%Y-%m-%d %H:%M:%S %z", &tm) == 0)
    snprintf (buf, FORMAT_MAX, "at an impossible time");
  return buf;
}

const char *
format_percent (uint64_t part, uint64_t whole, char buf[FORMAT_MAX])
{
  snprintf (buf, FORMAT_MAX, "%.1f %%",
            whole ? 100.0 * (double) part / (double) whole : 0.0);
  return buf;
}

/* Copy text, with "instead" for every byte that is no part of a UTF-8
 * character, and for control characters too if they are not wanted.
 */
static const char *
clean (const char *text, const char *instead, bool controls,
       char buf[FORMAT_TEXT_MAX])
{
  const size_t instead_len = strlen (instead);
  size_t n = 0, len;
  uint32_t c;

  while (*text && n < FORMAT_TEXT_MAX - 5) {
    len = utf8_char (text, &c);
    if (len > 0 && (controls || (c >= 0x20 && (c < 0x7f || c >= 0xa0)))) {
      memcpy (buf + n, text, len);
      n += len;
    }
    else {
      memcpy (buf + n, instead, instead_len);
      n += instead_len;
    }
    text += len ? len : 1;
  }
  buf[n] = '\0';
  return buf;
}

const char *
format_text (const char *text, char buf[FORMAT_TEXT_MAX])
{
  return clean (text, "?", false, buf);
}

struct json_object *
json_text (const char *text)
{
  char buf[FORMAT_TEXT_MAX];

  return json_object_new_string (clean (text, "\xef\xbf\xbd", true, buf));
}

void
json_print (struct json_object *object)
{
  puts (json_object_to_json_string_ext (object, JSON_C_TO_STRING_PRETTY |
                                        JSON_C_TO_STRING_SPACED |
                                        JSON_C_TO_STRING_NOSLASHESCAPE));
}

void
json_print_line (struct json_object *object)
{
  puts (json_object_to_json_string_ext (object, JSON_C_TO_STRING_SPACED |
                                        JSON_C_TO_STRING_NOSLASHESCAPE));
}

void
json_increment (struct json_object *o, const struct cbw_increment *i)
{
  const uint64_t bytes =
    atomic_load (&((struct cbw_increment *) i)->changed_bytes);

  json_object_object_add (o, "mode", json_object_new_string
                          (i->since ? "incremental" : "full"));
  if (i->since) {
    json_object_object_add (o, "since", json_text (i->name));
    json_object_object_add (o, "changed-bytes",
                            json_object_new_uint64 (bytes));
  }
  if (i->reason[0])
    json_object_object_add (o, "reason", json_text (i->reason));
}
