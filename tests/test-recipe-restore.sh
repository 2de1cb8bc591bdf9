#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: a day of a chain, to a file, and to the disk.  What is
# restored through the filter is in the next increment.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img nbdinfo

chain_of_days
run_recipe "Restore a day from a chain"
same "$tmp/is/tuesday" "$tmp/restored.img"
same "$tmp/is/tuesday" "$tmp/disk.img"
cbwctl create "$tmp/vm1" thursday >/dev/null
qemu-img convert -O qcow2 -B "$tmp/wednesday.qcow2" -F qcow2 \
         "nbd+unix:///wednesday..thursday?socket=$tmp/snap.sock" \
         "$tmp/thursday.qcow2"
image_is thursday.qcow2 tuesday
