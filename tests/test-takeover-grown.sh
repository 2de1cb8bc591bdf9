#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The disk has grown when the segment is taken over: the snapshot has its
# old size, also where its last cluster was partial, and writes past that
# pass.

. ./functions.sh
set -e

random_file "$tmp/original" 1000001
cp "$tmp/original" "$tmp/disk"
args=(cbw-shm="$shm" cbw-target="$tmp/target")

start_disk file "$tmp/disk" "${args[@]}"
stop_server disk
random_file "$tmp/more" 2000000
cat "$tmp/more" >>"$tmp/disk"

for how in same without; do
    if [ $how = same ]; then
        start_disk file "$tmp/disk" "${args[@]}"
    else
        start_disk file "$tmp/disk" cbw-shm="$shm"
    fi
    start_snap "$shm"
    guest <<PY
size = h.get_size ()
assert size == 3000001
where = [(999990, 20),          # across the old end
         (1000001, 1),          # just behind it, in the same cluster
         (1500000, 300000),     # far behind
         (size - 10, 10),
         (900000, 1200000)]     # much on both sides
for offset, n in where:
    data = b"%d" % (offset % 10) * n
    h.pwrite (data, offset)
    assert h.pread (n, offset) == data
h.zero (1000000, 1000002)
assert h.pread (1000000, 1000002) == bytes (1000000)
h.trim (size - 990000, 990000)
PY
    [ "$(nbdinfo --size "$snap")" = 1000001 ] || fail "the view has grown"
    view_is "$tmp/original"
    stop_server snap
    stop_server disk
done
[ "$(stat -c %s "$tmp/target")" = 1000001 ] || fail "the target has grown"
