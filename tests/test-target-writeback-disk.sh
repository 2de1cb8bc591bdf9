#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What test-target-writeback-error.sh plays, done by the kernel: a target is
# on a file system whose disk takes less than it promised.

. ./functions.sh
set -e

requires losetup mkfs.ext4
small_tmpfs 8m
mkdir "$tmp/fs"
truncate -s 64M "$tmp/small/img"
mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard "$tmp/small/img" 2>/dev/null
loop=$(losetup -f --show "$tmp/small/img" 2>/dev/null) ||
    skip "no loop device here"
at_exit "umount '$tmp/fs' 2>/dev/null; losetup -d $loop"
mount -o errors=continue "$loop" "$tmp/fs" 2>/dev/null ||
    skip "cannot mount a loop device here"

random_file "$tmp/disk" 16M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
cbwctl create "$shm" s --target="$tmp/fs/s.cow" >/dev/null
guest <<PY
for i in range (16):
    h.pwrite (b"1" * 1048576, i * 1048576)
PY
# What the kernel does after some seconds, and nobody sees the result: not
# fsync, which would tell.
"$PYTHON" - "$tmp/fs/s.cow" <<'PY'
import ctypes, os, sys
fd = os.open (sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL (None)
libc.sync_file_range (fd, ctypes.c_int64 (0), ctypes.c_int64 (0), 2)
PY
is_broken ()
{
    cbwctl status "$shm" --json |
        json "j['snapshots'][0]['state'] == 'broken' and
              j['snapshots'][0]['error']['reason'] == 'target'" 2>/dev/null
}
wait_for 20 is_broken || fail "its target could not be written back"
if nbdcopy "$snap" "$tmp/copy" 2>/dev/null; then
    fail "the view was read"
fi
stop_server snap

# Nor is a backup there complete.
cbwctl_fails 1 "failed" backup "$shm" --to="$tmp/fs/image"
absent "$tmp/fs/image"
stop_server disk
