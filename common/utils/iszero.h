/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef CBW_ISZERO_H
#define CBW_ISZERO_H

#include <stdbool.h>
#include <stddef.h>

/* Are all len bytes at buf zero?  True for len 0. */
extern bool is_zero (const void *buf, size_t len);

#endif /* CBW_ISZERO_H */
