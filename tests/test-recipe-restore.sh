#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: a day of a chain, to a file, and to the disk.  What is
# restored through the filter is in the next increment.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img nbdinfo

random_file "$tmp/disk.img" 8M
serve_disk
change_between
run_recipe "Back up each day what has changed, as a chain of qcow2 images"
run_recipe "Restore a day from a chain"
same "$tmp/is/tuesday" "$tmp/restored.img"
same "$tmp/is/tuesday" "$tmp/disk.img"
cbwctl create "$tmp/vm1" thursday >/dev/null
qemu-img convert -O qcow2 -B "$tmp/wednesday.qcow2" -F qcow2 \
         "nbd+unix:///wednesday..thursday?socket=$tmp/snap.sock" \
         "$tmp/thursday.qcow2"
image_is thursday.qcow2 tuesday
