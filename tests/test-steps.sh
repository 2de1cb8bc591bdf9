#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Each step of the arguments in docs/correctness.md stands as a label in the
# code at the line meant, and the code has no other labels.

. ./functions.sh
set -e

label="(RS|[A-Z][0-9]'?)"

# Steps begin an indented line; C and X are steps of QEMU's, not ours.
grep -oE "^ {4}$label( |\$)" "$top_srcdir/docs/correctness.md" |
    tr -d ' ' | grep -v '^[CX]' | sort -u >"$tmp/argued"

# A comment of labels alone, or one that begins with a label.
find "$top_srcdir"/common "$top_srcdir"/filters "$top_srcdir"/plugins \
     -name '*.[ch]' -exec cat {} + |
    grep -oE "/\* $label( $label)*( \*/|[.:] )" |
    grep -oE "\b$label" | sort -u >"$tmp/coded"

[ -s "$tmp/argued" ] || fail "docs/correctness.md has no steps"
diff -u "$tmp/argued" "$tmp/coded" ||
    fail "the steps in docs/correctness.md (-) and in the code (+) differ"
