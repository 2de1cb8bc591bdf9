#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: daily increments as a chain of qcow2 images.  Each image has
# the disk as it was at its snapshot, while a guest goes on writing.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img nbdinfo

random_file "$tmp/disk.img" 8M
serve_disk

# Between the recipe's commands the guest changes the disk.  "cbwctl create"
# keeps a copy of what the disk was at that moment: so no guest writes then.
mkdir "$tmp/is"
cat >"$tmp/bin/cbwctl" <<END
#!/bin/bash
set -e
"$cbwctl" "\$@"
[ "\$1" = create ] || exit 0
cp disk.img "is/\$3"
"$PYTHON" -m nbd -u "$disk" -c - <<PY
import os, random
for i in range (10):
    h.pwrite (os.urandom (5000), random.randrange (8 * 1024 * 1024 - 5000))
    h.zero (70000, random.randrange (8 * 1024 * 1024 - 70000))
    h.trim (65536, random.randrange (128) * 65536)
PY
END

run_recipe "Back up each day what has changed, as a chain of qcow2 images"
expect_in "$tmp/recipe.out" " hole"
same "$tmp/is/wednesday" "$tmp/restored.img"
! cmp -s "$tmp/is/monday" "$tmp/is/wednesday" || fail "the guest changed nothing"

# Tuesday's changes are in Monday's image.
absent "$tmp/tuesday.qcow2"
for day in "monday tuesday" "wednesday wednesday"; do
    set -- $day
    qemu-img check "$tmp/$1.qcow2" >"$tmp/check" 2>&1 ||
        { cat "$tmp/check" >&2; fail "$1.qcow2"; }
    qemu-img convert -O raw "$tmp/$1.qcow2" "$tmp/$1.raw"
    same "$tmp/is/$2" "$tmp/$1.raw"
done

# One checkpoint is left, and no snapshot.
shm=$tmp/vm1
states ""
"$cbwctl" create "$shm" now >/dev/null
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" 'export="wednesday..now"'
