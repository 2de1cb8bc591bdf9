#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Filters stacked above cbw (offset, partition, cow, truncate) change what
# the guest sees, and not what the snapshot reads: that is the disk at
# cbw's own layer.

. ./functions.sh
set -e

random_file "$tmp/original" 2M

# above FILTER ARGS...: runs the commands on stdin in the guest, with
# "original" at hand
above ()
{
    local f=$1
    shift
    cp "$tmp/original" "$tmp/disk"
    rm -f "$shm" "$tmp/target"
    start_nbdkit disk --filter="$f" --filter="$filter" file "$tmp/disk" \
                 cbw-shm="$shm" cbw-target="$tmp/target" "$@"
    start_snap "$shm"
    view_is "$tmp/original"
    { echo "original = open ('$tmp/original', 'rb').read ()"; cat; } | guest
    view_is "$tmp/original"
    stop_server snap
    stop_server disk
}

above offset offset=100000 range=1000000 <<PY
assert h.get_size () == 1000000
assert h.pread (1000000, 0) == original[100000:1100000]
h.pwrite (b"o" * 200000, 300000)
h.zero (100000, 0)
assert h.pread (200000, 300000) == b"o" * 200000
PY
! cmp -s "$tmp/disk" "$tmp/original" || fail "the writes went elsewhere"
cmp -n 100000 "$tmp/disk" "$tmp/original"

above truncate truncate=3M <<PY
h.pwrite (b"t" * 100000, 2 * 1024 * 1024 - 100000)
assert h.pread (512, 3 * 1024 * 1024 - 512) == bytes (512)
PY

# cow keeps the guest's writes to itself: the disk does not change.
above cow <<PY
h.pwrite (b"c" * 1000000, 500000)
assert h.pread (1000000, 500000) == b"c" * 1000000
assert h.pread (500000, 0) == original[:500000]
PY
same "$tmp/disk" "$tmp/original"
[ "$(du -k "$tmp/target" | cut -f1)" = 0 ] || fail "something was copied"

if command -v sfdisk >/dev/null; then
    sfdisk -q "$tmp/original" <<'PY'
label: dos
start=256, size=1024
start=2048, size=2000
PY
    above partition partition=2 <<PY
assert h.get_size () == 2000 * 512
assert h.pread (2000 * 512, 0) == original[2048 * 512:4048 * 512]
h.pwrite (b"p" * 2000 * 512, 0)
PY
    cmp -n 1048576 "$tmp/disk" "$tmp/original"
fi

# A filter below is part of the disk.
cp "$tmp/original" "$tmp/disk"
rm -f "$shm" "$tmp/target"
tail -c +4097 "$tmp/original" >"$tmp/rest"
start_disk --filter=offset file "$tmp/disk" offset=4096 \
           cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
guest <<PY
h.pwrite (b"x" * 100000, 0)
PY
view_is "$tmp/rest"
