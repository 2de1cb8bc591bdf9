#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A write to the target never returns.  The guest is released at the time
# limit, its later writes too; the server ends all the same, after a while,
# and says why; and the next one has what was done.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-on-error=break-guest-write cbw-timeout=0.2 -D cbw.stuck_wait=1
start_snap "$shm"
guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
target_fault hang
guest <<PY
import errno, time
for i in range (3):
    start = time.monotonic ()
    try:
        h.pwrite (b"2" * 100, 1000000)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO
    took = time.monotonic () - start
    assert 0.19 < took < 0.8, took
# What needs no copy is not held up.
h.pwrite (b"3" * 65536, 0)
h.pread (65536, 1000000)
PY
view_is "$tmp/original"

# The first write hangs and holds the file; the others wait behind it.
start=$(date +%s%N)
stop_server disk
took=$(( ($(date +%s%N) - start) / 1000000 ))
[ $took -ge 900 ] && [ $took -lt 5000 ] || fail "it took $took ms to end"
expect_in "$tmp/disk.log" "waiting for 3 copies that took too long"
expect_in "$tmp/disk.log" "3 copies are stuck; leaving them"

target_fault none
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl check "$shm" >/dev/null
stop_server snap
start_snap "$shm"
view_is "$tmp/original"
guest <<PY
h.pwrite (b"4" * 100, 1000000)
PY
view_is "$tmp/original"

# One that ends late, but ends, is waited for, and does no harm.
target_fault hang
guest <<PY
try:
    h.pwrite (b"5" * 100, 2000000)
    assert False
except nbd.Error as e:
    pass
PY
target_fault none
guest <<PY
h.pwrite (b"6" * 100, 2000000)
PY
view_is "$tmp/original"
cbwctl check "$shm" >/dev/null
stop_server disk
not_in "$tmp/disk.log" "1 copies are stuck"
