#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The view is stopped, then the filter, both in good order: the disk has
# what the guest wrote, byte for byte, and the servers end with status 0.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
cp "$tmp/disk" "$tmp/expected"
random_file "$tmp/new" 1000000
dd if="$tmp/new" of="$tmp/expected" bs=4k seek=123456 oflag=seek_bytes \
   conv=notrunc status=none

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
guest <<PY
h.pwrite (open ("$tmp/new", "rb").read (), 123456)
h.flush ()
PY
view_is "$tmp/original"

stop_server snap
same "$tmp/expected" "$tmp/disk"
guest <<PY
assert h.pread (1000000, 123456) == open ("$tmp/new", "rb").read ()
PY
stop_server disk
same "$tmp/expected" "$tmp/disk"

# The files are left: the snapshot can be taken up again.
[ -e "$shm" ] && [ -e "$tmp/target" ] || fail "segment or target is gone"
