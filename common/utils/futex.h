/* SPDX-License-Identifier: BSD-3-Clause */

/* Futexes on words of a shared mapping (so never the PRIVATE kind). */

#ifndef CBW_FUTEX_H
#define CBW_FUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Sleep while *word == expected, for timeout_ns nanoseconds at most.
 * May return early at any time, for any reason: callers look at the
 * word again.  Returns 0, or -1 with errno ETIMEDOUT.
 * The page of the word need only be readable.
 */
extern int futex_wait (const _Atomic (uint32_t) *word, uint32_t expected,
                       uint64_t timeout_ns);

/* Wake up to n threads, of any process, that sleep on the word.  Returns
 * whether there was one.
 */
extern bool futex_wake (_Atomic (uint32_t) *word, int n);

#endif /* CBW_FUTEX_H */
