#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: a file out of an internal snapshot of a qcow2 image, which
# another program has open for writing.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires guestfish qemu-img qemu-nbd mkfs.ext4

mkdir -p "$tmp/root/etc"
echo "as it was" >"$tmp/root/etc/hostname"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.img" 16M
qemu-img convert -O qcow2 "$tmp/disk.img" "$tmp/disk.qcow2"
qemu-img snapshot -c before-upgrade "$tmp/disk.qcow2"
start_server disk qemu-nbd -t -f qcow2 -k "$tmp/disk.sock" "$tmp/disk.qcow2"
guest <<'PY'
h.pwrite (b"x" * (8 << 20), 0)
h.flush ()
PY

guestfs_recipe "Get a file out of an internal snapshot of a qcow2 image"
expect_in "$tmp/recipe.out" 'export="before-upgrade"'
expect_in "$tmp/hostname.before" "as it was"
