#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: a chain of qcow2 images that the server writes itself.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img qemu-nbd nbdinfo

random_file "$tmp/disk.img" 8M
change_between
run_recipe "Let the server write a chain of qcow2 images"
image_is monday.qcow2 monday
image_is tuesday.qcow2 tuesday
expect_in "$tmp/recipe.out" 'Writing what has changed since "monday"'
qemu-img map --output=json "$tmp/tuesday.qcow2" | json '
    sum (x["length"] for x in j if x["depth"] == 0) < 6 << 20'

# One that was interrupted is run again.
cd "$tmp"
qemu-img create -q -f qcow2 -b tuesday.qcow2 -F qcow2 wednesday.qcow2 8M
wednesday ()
{
    "$tmp/bin/cbwctl" backup ./vm1 wednesday --since=tuesday "$@" \
                      --to="[ qemu-nbd -f qcow2 $tmp/wednesday.qcow2 ]"
}
wednesday --speed=64k --detach
"$cbwctl" backup ./vm1 wednesday --cancel
wednesday
image_is wednesday.qcow2 wednesday
