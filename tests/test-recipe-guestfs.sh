#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: libguestfs's tools on a snapshot, and a scratch copy in
# which a journal is replayed.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires guestfish virt-df virt-ls mkfs.ext4 debugfs dumpe2fs

mkdir -p "$tmp/root/etc/sub"
echo "the machine" >"$tmp/root/etc/hostname"
echo more >"$tmp/root/etc/sub/file"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.img" 24M

# A change that is only in the journal so far, as of a mounted file system.
block=$(debugfs -R 'blocks /etc/hostname' "$tmp/disk.img" 2>/dev/null)
{ echo "replayed"; head -c 4096 /dev/zero; } |
    head -c "$(debugfs -R stats "$tmp/disk.img" 2>/dev/null |
               sed -n 's/^Block size: *//p')" >"$tmp/block"
debugfs -w "$tmp/disk.img" >/dev/null 2>&1 <<END
journal_open
journal_write -b ${block// /} $tmp/block
journal_close
END

needs_recovery ()
{
    dumpe2fs -h "$1" 2>/dev/null | grep -q needs_recovery
}
needs_recovery "$tmp/disk.img" || fail "there is nothing to replay"
cp "$tmp/disk.img" "$tmp/original"
serve_disk

guestfs_recipe "Look at the files in a snapshot"
expect_in "$tmp/recipe.out" "/dev/sda"
expect_in "$tmp/recipe.out" "/sub/file"
expect_in "$tmp/recipe.out" "replayed"
cbwctl drop "$tmp/vm1" look >/dev/null

# Now with a guest that overwrites the disk under it.
guestfs_recipe "Mount a snapshot that needs its journal replayed"
expect_in "$tmp/recipe.out" "hostname"
guest <<PY
h.pwrite (b"x" * (8 << 20), 0)
PY
for s in scratch.sock snap.sock; do
    nbdcopy "nbd+unix:///look?socket=$tmp/$s" "$tmp/$s.img" 2>/dev/null ||
        nbdcopy "nbd+unix:///?socket=$tmp/$s" "$tmp/$s.img"
done
cmp "$tmp/snap.sock.img" "$tmp/original" || fail "the snapshot has changed"
if needs_recovery "$tmp/scratch.sock.img"; then
    fail "the journal was not replayed"
fi
