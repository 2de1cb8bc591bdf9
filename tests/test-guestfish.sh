#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# guestfish --ro looks into the view of an ext4 disk, lists and reads its
# files and finds the file system clean, while a writer overwrites the disk.

. ./functions.sh
set -e
requires guestfish mkfs.ext4 qemu-img

mkdir -p "$tmp/root/etc" "$tmp/root/data"
echo "the machine" >"$tmp/root/etc/hostname"
for i in $(seq 20); do
    random_file "$tmp/root/data/file$i" $((i * 12345))
done
mkfs.ext4 -q -d "$tmp/root" -L snapped "$tmp/disk" 24M
cp "$tmp/disk" "$tmp/original"

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
guest <<PY >"$tmp/writer.log" 2>&1 &
import os, random, time
random.seed (1)
size = h.get_size ()
# The superblock first, then anything, until the other one is through.
h.pwrite (b"\xff" * 65536, 0)
n = 0
while not os.path.exists ("$tmp/stop"):
    h.pwrite (b"\xff" * 100000, random.randrange (size - 100000))
    n += 1
    open ("$tmp/writing", "w").close ()
    time.sleep (0.005)
assert n > 100
PY
writer=$!
wait_for 30 test -e "$tmp/writing" || fail "the writer did not start"

if ! guestfish --ro --format=raw \
        -a "nbd://?socket=$tmp/snap.sock" >"$tmp/out" 2>"$tmp/guestfish.log" <<EOF2
run
list-filesystems
echo fsck says
fsck ext4 /dev/sda
mount-ro /dev/sda /
ls /data
cat /etc/hostname
download /data/file20 $tmp/file20
checksums-out sha256 /data $tmp/sums
EOF2
then
    if grep -q "supermin\|kernel\|could not create appliance" \
            "$tmp/guestfish.log"; then
        cat "$tmp/guestfish.log"
        skip "libguestfs cannot make its appliance here"
    fi
    fail "guestfish failed"
fi
touch "$tmp/stop"
wait $writer || { cat "$tmp/writer.log" >&2; fail "the writer"; }

expect_in "$tmp/out" "/dev/sda: ext4"
[ "$(grep -A1 '^fsck says' "$tmp/out" | tail -1)" = 0 ] || fail "fsck"
expect_in "$tmp/out" "the machine"
expect_in "$tmp/out" "file13"
same "$tmp/file20" "$tmp/root/data/file20"
[ "$(grep -c '/file' "$tmp/sums")" = 20 ] || fail "20 files"
( cd "$tmp/root/data" && sha256sum --quiet -c "$tmp/sums" ) || fail "checksums"
! cmp -s "$tmp/disk" "$tmp/original" || fail "nothing was overwritten"
view_is "$tmp/original"
