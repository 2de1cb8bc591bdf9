/* SPDX-License-Identifier: BSD-3-Clause */

/* What NBD and JSON take as text is UTF-8. */

#ifndef CBW_UTF8_H
#define CBW_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The length of the UTF-8 character at p, a NUL-terminated string that is
 * not at its end; 0 if the bytes there are none.  *c is the character.
 */
static inline size_t
utf8_char (const char *p, uint32_t *c)
{
  static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
  const unsigned char *u = (const unsigned char *) p;
  const size_t len = u[0] < 0x80 ? 1 : u[0] < 0xc0 ? 0 : u[0] < 0xe0 ? 2 :
    u[0] < 0xf0 ? 3 : u[0] < 0xf8 ? 4 : 0;
  size_t i;

  if (len == 0)
    return 0;
  *c = len == 1 ? u[0] : u[0] & (0x7fu >> len);
  for (i = 1; i < len; ++i) {
    if ((u[i] & 0xc0) != 0x80)
      return 0;
    *c = *c << 6 | (u[i] & 0x3f);
  }
  if (*c < smallest[len] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000))
    return 0;
  return len;
}

#endif /* CBW_UTF8_H */
