#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A fast zero that would have to copy old data fails with ENOTSUP at once
# and changes nothing; where nothing is to be copied (done already, past
# the snapshot, no snapshot, broken) it succeeds, if the disk can.

. ./functions.sh
set -e

random_file "$tmp/data" 1M
# nbdkit-memory-plugin can; --filter=cow would too.
fast="nbd.CMD_FLAG_FAST_ZERO"

start_disk memory 2M cbw-shm="$shm"
guest <<PY
assert h.can_fast_zero ()
h.zero (65536, 0, $fast)        # no snapshot
PY
stop_server disk
rm "$shm"

# A disk with data, which can zero fast, and keeps a log of what reaches it.
cp "$tmp/data" "$tmp/disk"
truncate -s 2M "$tmp/disk"
start_disk --filter=log eval logfile="$tmp/requests" \
    get_size="echo 2097152" \
    can_write=: can_trim="exit 3" can_zero=: can_fast_zero=: can_flush=: \
    pread="dd if=$tmp/disk skip=\$4 count=\$3 \\
           iflag=skip_bytes,count_bytes,fullblock status=none" \
    pwrite="dd of=$tmp/disk seek=\$4 oflag=seek_bytes conv=notrunc status=none" \
    zero="dd if=/dev/zero of=$tmp/disk count=\$3 iflag=count_bytes,fullblock \\
          seek=\$4 oflag=seek_bytes conv=notrunc status=none" \
    flush=: \
    cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
cp "$tmp/disk" "$tmp/original"

guest <<PY
import errno
K = 1024
assert h.can_fast_zero ()
def refused (count, offset):
    try:
        h.zero (count, offset, $fast)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.ENOTSUP, e.string

refused (64 * K, 0)
refused (512, 1000)
refused (1024 * K, 0)
assert h.pread (1024 * K, 0) == open ("$tmp/data", "rb").read ()
open ("$tmp/so-far", "w").write (open ("$tmp/requests").read ())

# As a zero that takes its time it works, and then fast too.
h.zero (64 * K, 0)
h.pwrite (b"x" * 64 * K, 0)
h.zero (64 * K, 0, $fast)
assert h.pread (64 * K, 0) == bytes (64 * K)
h.zero (512, 1000, $fast)
refused (64 * K, 32 * K)        # half of it is done
refused (64 * K + 1, 0)
h.pwrite (b"y" * 64 * K, 64 * K)
h.zero (128 * K, 0, $fast)
assert h.pread (128 * K, 0) == bytes (128 * K)
PY
view_is "$tmp/original"
# What was refused did not get as far as the disk.
not_in "$tmp/so-far" "Zero"
grep -q "Zero.*fast=1" "$tmp/requests" || fail "fast zeroes did not pass"
