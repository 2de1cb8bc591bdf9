#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-on-error=break-snapshot: the file system of the target is full.  The
# guest's write succeeds all the same, the view fails with EIO from then
# on, nbdinfo --list says broken and why, the log too, and a restarted
# filter does not forget it.

. ./functions.sh
set -e

small_tmpfs 1M

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/small/target" \
           cbw-on-error=break-snapshot
start_snap "$shm"

# Half a MiB fits.
guest <<PY
h.pwrite (b"a" * (512 * 1024), 0)
PY
view_is "$tmp/original"

# Two more do not; and no write notices.
guest <<PY
h.pwrite (b"b" * (2 * 1024 * 1024), 1024 * 1024)
h.zero (65536, 3 * 1024 * 1024 + 65536)
h.flush ()
assert h.pread (2 * 1024 * 1024, 1024 * 1024) == b"b" * (2 * 1024 * 1024)
assert h.pread (512 * 1024, 0) == b"a" * (512 * 1024)
assert h.pread (65536, 3 * 1024 * 1024 + 65536) == bytes (65536)
PY

is_broken ()
{
    reader <<PY
import errno
# Everywhere: preserved, not preserved, never touched.
for offset in 0, 1024 * 1024, 4 * 1024 * 1024 - 512:
    for op in [lambda: h.pread (512, offset),
               lambda: h.block_status (512, offset, lambda *a: 0),
               lambda: h.cache (512, offset)]:
        try:
            op ()
            assert False, offset
        except nbd.Error as e:
            assert e.errnum == errno.EIO, e.string
PY
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" "broken: copy failed at offset "
    expect_in "$tmp/list" ": No space left on device"
}
is_broken
expect_in "$tmp/disk.log" 'snapshot "snapshot" is broken'
expect_in "$tmp/disk.log" "No space left on device"
expect_in "$tmp/disk.log" "$tmp/small/target"
# One failed copy, one message.
[ "$(grep -c 'is broken' "$tmp/disk.log")" -eq 1 ] || fail "said it twice"

# Started again, also where there would be room by now.
stop_server snap
stop_server disk
mount -o remount,size=16M "$tmp/small"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/small/target"
start_snap "$shm"
is_broken
guest <<PY
h.pwrite (b"c" * 4096, 5000)
assert h.pread (4096, 5000) == b"c" * 4096
PY
is_broken
