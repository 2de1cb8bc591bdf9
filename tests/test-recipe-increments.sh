#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: daily increments as a chain of qcow2 images.  Each image has
# the disk as it was at its snapshot, while a guest writes.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img nbdinfo

chain_of_days
expect_in "$tmp/recipe.out" " hole"
for day in monday tuesday wednesday; do
    image_is $day.qcow2 $day
done
! cmp -s "$tmp/is/monday" "$tmp/is/wednesday" ||
    fail "the guest changed nothing"

# One checkpoint is left, and no snapshot.
shm=$tmp/vm1
states ""
"$cbwctl" create "$shm" now >/dev/null
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" 'export="wednesday..now"'
