#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdinfo --map of the view: the source's extents where nothing was
# overwritten, and else what was there before: data where the old data was,
# holes where it was zeroes, whatever the guest puts there.

. ./functions.sh
set -e

# 64k clusters:   0-3 data  4-7 hole  8-11 zeroes, allocated  12-15 data
random_file "$tmp/disk" 256K
truncate -s 512K "$tmp/disk"
head -c 256K /dev/zero | dd of="$tmp/disk" bs=64k seek=8 conv=notrunc status=none
random_file "$tmp/part" 256K
cat "$tmp/part" >>"$tmp/disk"
cp --sparse=never "$tmp/disk" "$tmp/original"

# map: lines of START LENGTH TYPE in clusters, neighbours of a type joined
map ()
{
    nbdinfo --map "$1" | awk 'BEGIN { type = "none" } {
        if ($3 == type) n += $2
        else { if (n) print start, n / 65536, type; start = $1 / 65536
               n = $2; type = $3 }
      } END { print start, n / 65536, type }' >"$tmp/map"
}
expect_map ()
{
    map "$snap"
    printf '%s\n' "$@" | diff - "$tmp/map" >&2 || fail "the map is not that"
}

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"

map "$disk"
printf '%s\n' "0 4 0" "4 4 3" "8 8 0" | diff - "$tmp/map" ||
    skip "the file system here does not keep holes as they are"
expect_map "0 4 0" "4 4 3" "8 8 0"

# Overwritten with data: old data is data, old holes stay holes, and old
# zeroes become holes.
guest <<PY
h.pwrite (b"x" * 65536, 1 * 65536)
h.pwrite (b"x" * 65536, 5 * 65536)
h.pwrite (b"x" * 65536, 9 * 65536)
h.pwrite (b"x" * 512, 13 * 65536 + 1000)
PY
expect_map "0 4 0" "4 4 3" "8 1 0" "9 1 3" "10 6 0"
map "$disk"
printf '%s\n' "0 4 0" "4 1 3" "5 1 0" "6 2 3" "8 8 0" | diff - "$tmp/map" ||
    fail "the guest's map"
view_is "$tmp/original"

# Overwritten with holes: the same.
guest <<PY
h.trim (65536, 2 * 65536)
h.zero (65536, 6 * 65536)
h.zero (65536, 10 * 65536)
h.zero (65536, 14 * 65536)
PY
expect_map "0 4 0" "4 4 3" "8 1 0" "9 2 3" "11 5 0"
view_is "$tmp/original"

# All of it.
guest <<PY
h.pwrite (b"y" * 16 * 65536, 0)
PY
expect_map "0 4 0" "4 8 3" "12 4 0"
view_is "$tmp/original"

# The target is as sparse as that, the totals and parts of the map fit.
[ "$(du -k "$tmp/target" | cut -f1)" -le 520 ] || fail "zeroes were written"
nbdinfo --map --totals "$snap" >"$tmp/totals"
grep -Eq '^ *524288 +50.0% +0 data$' "$tmp/totals" || fail "totals"
grep -Eq '^ *524288 +50.0% +3 hole,zero$' "$tmp/totals" || fail "totals"
reader <<PY
def ask (n, offset):
    got = []
    h.block_status (n, offset, lambda c, o, e, err: got.extend (e))
    return got
# The last one may go on, as far as it is the same.
assert ask (512, 0) == [4 * 65536, 0]
assert ask (512, 4 * 65536 - 100)[:2] == [100, 0]
assert ask (512, 4 * 65536 - 100)[3] == 3
assert ask (512, 4 * 65536 - 100)[2] >= 412
assert ask (1, 16 * 65536 - 1) == [1, 0]
PY
