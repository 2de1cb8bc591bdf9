#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: the oldest images of a chain become one, which the next ones
# are based on; and an image stands alone.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img nbdinfo

chain_of_days

# What the page says of a first command that is interrupted.
cp "$tmp/monday.qcow2" "$tmp/was"
(cd "$tmp" && exec qemu-img commit -q -r 64k -d tuesday.qcow2) &
committer=$!
begun () { ! cmp -s "$tmp/monday.qcow2" "$tmp/was"; }
wait_for 30 begun || fail "qemu-img commit does not begin"
kill -KILL $committer || fail "qemu-img commit has ended already"
wait $committer 2>/dev/null || :
image_is wednesday.qcow2 wednesday
image_is tuesday.qcow2 tuesday

run_recipe "Merge the oldest images of a chain"
absent "$tmp/monday.qcow2"
image_is tuesday.qcow2 tuesday
image_is wednesday.qcow2 wednesday

# Both stand alone now.
for day in tuesday wednesday; do
    qemu-img info "$tmp/$day.qcow2" >"$tmp/info"
    not_in "$tmp/info" "backing file"
done
