#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Disks whose size is no multiple of anything, in small and large clusters:
# the view has every byte of the old data, to the last, after unaligned
# writes at the edges and one over everything.

. ./functions.sh
set -e

try ()
{
    local size=$1 cluster=$2
    random_file "$tmp/original" "$size"
    cp "$tmp/original" "$tmp/disk"
    rm -f "$shm" "$tmp/target"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
               cbw-cluster-size="$cluster"
    start_snap "$shm"
    [ "$(nbdinfo --size "$snap")" = "$size" ] || fail "size of $size/$cluster"
    [ "$(stat -c %s "$tmp/target")" = "$size" ] || fail "target, $size/$cluster"
    [ "$size" = 0 ] || nbdsh -c - <<PY
guest = nbd.NBD (); guest.connect_uri ("$disk")
view = nbd.NBD (); view.connect_uri ("$snap")
old = open ("$tmp/original", "rb").read ()
now = bytearray (old)
size = $size
def write (offset, n):
    offset, end = max (0, offset), min (size, offset + n)
    if offset < end:
        data = bytes ([255 - now[offset]]) * (end - offset)
        guest.pwrite (data, offset)
        now[offset:end] = data
def check ():
    assert guest.pread (size, 0) == now
    assert view.pread (size, 0) == old
    for offset, n in (0, 1), (size - 1, 1), (size // 2, 3), (size - 700, 700):
        if offset >= 0 and offset + n <= size:
            assert view.pread (n, offset) == old[offset:offset + n]
guest.zero (1, size - 1)
now[size - 1] = 0
check ()
write (size - 1, 1)
check ()
write (0, 1)
check ()
write (size // 2, 2)
write ($cluster - 1, 2)
write (size // $cluster * $cluster - 1, 3)
check ()
guest.zero (min (size, 600), max (0, size - 600))
now[max (0, size - 600):] = bytes (min (size, 600))
check ()
write (0, size)
check ()
PY
    view_is "$tmp/original"
    stop_server snap
    stop_server disk
}

for size in 0 1 511 513 4095 65537 $((1024 * 1024 + 17)); do
    try $size 4096
    try $size 65536
done
try 511 4194304
try 65537 1048576
try $((1024 * 1024 + 17)) 1048576
try $((4 * 1024 * 1024 + 17)) 4194304
