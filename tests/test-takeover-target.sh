#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The target is removed, replaced by another file, or resized while no
# server runs: the next one starts, with the snapshot broken and saying
# why, and the guest is not affected.  If it is only in use just then, the
# start is refused, and the snapshot stays whole.

. ./functions.sh
set -e

for how in removed replaced truncated grown; do
    rm -f "$shm" "$tmp/target" "$tmp/old"
    random_file "$tmp/disk" 1M
    cp "$tmp/disk" "$tmp/original"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
    guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
    stop_server disk

    case $how in
        removed)   rm "$tmp/target"
                   why="No such file or directory" ;;
        replaced)  mv "$tmp/target" "$tmp/old"
                   cp "$tmp/old" "$tmp/target"
                   why="is not the file the snapshot was made with" ;;
        truncated) truncate -s 65536 "$tmp/target"
                   why="is 65536 bytes long, not 1048576" ;;
        grown)     truncate -s 2M "$tmp/target"
                   why="is 2097152 bytes long, not 1048576" ;;
    esac

    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm"
    expect_in "$tmp/disk.log" "$why"
    expect_in "$tmp/disk.log" 'snapshot "snapshot" is broken'
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" "broken: its target is gone or was changed"
    guest <<PY
h.pwrite (b"2" * 200000, 30000)
h.zero (70000, 500000)
assert h.pread (200000, 30000) == b"2" * 200000
assert h.pread (70000, 500000) == bytes (70000)
PY
    reader <<PY
import errno
for op in [lambda: h.pread (512, 0), lambda: h.pread (512, 900000),
           lambda: h.block_status (512, 0, lambda *a: 0)]:
    try:
        op ()
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e.string
PY
    stop_server snap
    stop_server disk

    # Broken is for ever.
    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm"
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" "broken: its target is gone or was changed"
    stop_server snap
    stop_server disk
    : >"$tmp/disk.log"
done

# In use, by another filter.
rm -f "$shm" "$tmp/target"
random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
stop_server disk
cp "$shm" "$tmp/shm2"
start_nbdkit other --filter="$filter" file "$tmp/original" cbw-shm="$tmp/shm2"
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm"
expect_in "$tmp/refused.log" "is open for writing in this server, as its disk or another target, or in another program"
stop_server other
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
view_is "$tmp/original"
