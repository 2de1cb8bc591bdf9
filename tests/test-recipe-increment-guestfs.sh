#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: one file out of Tuesday's increment.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires guestfish qemu-img mkfs.ext4

# The same file system on each day, but for the text of one file.
mkdir -p "$tmp/root/etc"
for day in monday tuesday wednesday; do
    printf '%-20s\n' "it is $day" >"$tmp/root/etc/hostname"
    touch -d @1000000000 "$tmp/root/etc/hostname"
    E2FSPROGS_FAKE_TIME=1000000000 mkfs.ext4 -q -d "$tmp/root" \
        -U 00000000-0000-0000-0000-000000000001 \
        -E hash_seed=00000000-0000-0000-0000-000000000002 \
        "$tmp/$day.img" 16M
done
cp "$tmp/monday.img" "$tmp/disk.img"
serve_disk

# After each day's snapshot a guest writes the next day's file system.
cat >"$tmp/bin/cbwctl" <<END
#!/bin/bash
set -e
"$cbwctl" "\$@"
case "\$1 \$3" in
    "create monday") next=tuesday ;;
    "create tuesday") next=wednesday ;;
    *) exit 0 ;;
esac
"$PYTHON" -m nbd -u "$disk" -c - <<PY
with open ("$tmp/\$next.img", "rb") as f:
    data = f.read ()
for i in range (0, len (data), 4096):
    if h.pread (4096, i) != data[i:i + 4096]:
        h.pwrite (data[i:i + 4096], i)
PY
END
run_recipe "Back up each day what has changed, as a chain of qcow2 images"
[ "$(stat -c %s "$tmp/tuesday.qcow2")" -lt 2000000 ] || fail "not an increment"
guestfs_recipe "Get one file out of Tuesday's increment"
expect_in "$tmp/hostname.tuesday" "it is tuesday"
