#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-on-error=break-snapshot: old data cannot be read from the disk.  The
# guest's write succeeds all the same, the view fails with EIO, also once
# the disk is well again, and nbdinfo --list says where and why.
# A reader's failed read of the disk breaks nothing.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
start_disk --filter=error file "$tmp/disk" \
           error-pread=EIO error-pread-rate=100% error-pread-file="$tmp/bad" \
           cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
guest <<PY
h.pwrite (b"0" * 65536, 0)
PY
view_is "$tmp/original"

# A reader sees the error only where the disk is read, and only then.
touch "$tmp/bad"
reader <<PY
import errno
original = open ("$tmp/original", "rb").read ()
assert h.pread (65536, 0) == original[:65536]
for offset, length in (65536, 512), (65000, 1000), (0, 1024 * 1024):
    try:
        h.pread (length, offset)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e.string
PY
rm "$tmp/bad"
view_is "$tmp/original"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "live"

# A write to what is done already needs no copy.
touch "$tmp/bad"
guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
rm "$tmp/bad"
view_is "$tmp/original"

# This one needs one.
touch "$tmp/bad"
guest <<PY
h.pwrite (b"2" * 512, 8 * 65536 + 1000)
PY
rm "$tmp/bad"
guest <<PY
original = open ("$tmp/original", "rb").read ()
assert h.pread (65536, 8 * 65536) == \
    original[8 * 65536:8 * 65536 + 1000] + b"2" * 512 + \
    original[8 * 65536 + 1512:9 * 65536]
PY
reader <<PY
import errno
for offset in 0, 8 * 65536, 15 * 65536:
    try:
        h.pread (512, offset)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e.string
PY
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "broken: copy failed at offset 524288: Input/output error"
expect_in "$tmp/disk.log" "cannot read old data from the disk"

kill_server disk KILL
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "broken: copy failed at offset 524288: Input/output error"
